from datetime import timedelta
from typing import Any

from django import template
from django.conf import settings
from django.template.defaultfilters import date
from django.utils import timezone
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


@register.simple_tag(takes_context=True)
def shortened_history(context: template.Context) -> int | None:
    """After how many days changes are forgotten, for a thing that is older; None for one whose history is whole."""
    thing, days = context.get("original") or context.get("object"), settings.EVENT_RETENTION_DAYS
    made_at = getattr(thing, "created_at", None)
    return days if days and made_at and made_at < timezone.now() - timedelta(days=days) else None
