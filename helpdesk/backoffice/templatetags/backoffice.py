from typing import Any

from django import template
from django.template.defaultfilters import date
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helpdesk.accounts.models import User
from helpdesk.backoffice import history
from helpdesk.changes.admin import badge
from tickets.admin import download_url

register = template.Library()
register.simple_tag(badge)
register.filter(download_url)


@register.filter
def moment(value: Any) -> SafeString | str:
    """A time as people read it, to the second and with its zone for those who point at it."""
    if value is None:
        return "–"
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        value.isoformat(),
        date(value, "Y-m-d H:i:s"),
        date(value, "DATETIME_FORMAT"),
    )


@register.simple_tag
def history_of(instance: Any, user: User) -> list[history.Entry] | None:
    return history.of(instance, user)
