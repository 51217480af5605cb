"""The admin's pages as a browser has them: their addresses, and their forms with what is filled in."""

from html.parser import HTMLParser
from typing import Any

from django.http import HttpResponse
from django.urls import reverse

from notifications.models import Event


def page(name: str, instance: Any = None) -> str:
    """The address of a page: `page("tickets_ticket_change", ticket)`."""
    return reverse(f"admin:{name}", args=[instance.pk] if instance is not None else [])


def last_event(entity: str) -> Event:
    event = Event.objects.filter(entity=entity).order_by("-id").first()
    assert event is not None
    return event


class _Form(HTMLParser):
    """Collects what a browser would send of the form with one id. Buttons are for the test to press."""

    def __init__(self, id_: str) -> None:
        super().__init__()
        self.id, self.inside, self.data = id_, False, {}
        self.select: str | None = None
        self.textarea: str | None = None

    def handle_starttag(self, tag: str, attributes: list) -> None:
        attrs = dict(attributes)
        if tag == "form":
            self.inside = attrs.get("id") == self.id
        if not self.inside:
            return
        name, kind = attrs.get("name"), attrs.get("type", "text")
        if tag == "select" and name:
            self.select = name
            self.data.setdefault(name, "")
        elif tag == "option" and self.select and "selected" in attrs:
            self.data[self.select] = attrs.get("value", "")
        elif tag == "textarea" and name:
            self.textarea, self.data[name] = name, ""
        elif (
            tag == "input"
            and name
            and kind not in ("submit", "file")
            and (kind not in ("checkbox", "radio") or "checked" in attrs)
        ):
            self.data[name] = attrs.get("value") or ("on" if kind == "checkbox" else "")

    def handle_data(self, data: str) -> None:
        if self.textarea:
            self.data[self.textarea] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self.textarea:
            # The line feed after the tag is not part of the text; what is sent has CRLF.
            text = self.data[self.textarea].removeprefix("\n")
            self.data[self.textarea] = text.replace("\r\n", "\n").replace("\n", "\r\n")
            self.textarea = None
        elif tag == "select":
            self.select = None
        elif tag == "form":
            self.inside = False


def form_of(response: HttpResponse, id_: str) -> dict[str, str]:
    """What a browser would send of the form `id_` if nothing were changed."""
    assert response.status_code in (200, 400, 409), response.status_code
    form = _Form(id_)
    form.feed(response.content.decode())
    assert form.data, f"no form {id_}"
    form.data.pop("csrfmiddlewaretoken", None)
    return form.data
