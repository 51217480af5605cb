"""The form of an endpoint: URL, description, types, headers of its own, how fast and in which order."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from notifications import catalogue
from notifications.encryption import SecretUnreadable
from notifications.models import WebhookEndpoint
from notifications.webhooks import endpoints
from notifications.webhooks.destination import DestinationRefused
from notifications.webhooks.headers import MASK, HeadersRefused, merged

# Fields that `endpoints` takes as they are.
_PLAIN = ("url", "description", "types", "rate_limit", "ordered")


class HeaderLinesField(forms.CharField):
    """Headers as lines, `Name: value`. A value that is there already is shown as MASK, which keeps it."""

    widget = forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField headers", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}: {MASK}" for name in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """{name: value, or None for MASK}."""
        found: dict[str, str | None] = {}
        for line in (super().to_python(value) or "").splitlines():
            if not line.strip():
                continue
            name, colon, text = (part.strip() for part in line.partition(":"))
            if not colon:
                raise ValidationError("Write each header as a line: Name: value")
            if name in found:
                raise ValidationError(f"{name} is there twice.")
            found[name] = None if text == MASK else text
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        """`initial`: names, or what the page's hidden field had, as `to_python` reads it."""
        try:
            return self.to_python(data) != dict.fromkeys(initial or ())
        except ValidationError:
            return True


class EndpointForm(forms.ModelForm):
    """Saved by `endpoints.create` and `endpoints.change`, with what was changed on the page and nothing else."""

    types = forms.MultipleChoiceField(
        choices=[(type_, type_) for type_ in catalogue.TYPES if type_ != catalogue.WEBHOOK_TEST],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Notification types it wants. None chosen means all.",
    )
    header_lines = HeaderLinesField(
        label="Headers",
        required=False,
        help_text=f"Sent with every request, one a line: Authorization: Bearer … Values are never shown; {MASK} keeps "
        "one as it is.",
    )
    origin = ""  # of the page, given by the admin: a URL there is one of this application

    class Meta:
        model = WebhookEndpoint
        fields = ("url", "description", "rate_limit", "ordered")
        labels = {"url": "URL"}
        widgets = {"url": forms.TextInput(attrs={"class": "vLargeTextField"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_new = self.instance._state.adding
        self.initial.setdefault("types", self.instance.types)
        self.initial.setdefault("header_lines", self.instance.header_names)
        self.present_url = self.instance.url
        for field in self.fields.values():
            field.show_hidden_initial = not self.is_new

    def clean_url(self) -> str:
        if "url" not in self.changed_data:
            return self.present_url
        try:
            return endpoints.normalize_url(self.cleaned_data["url"], own_origins=(self.origin,))
        except DestinationRefused as refusal:
            raise ValidationError(refusal.message[:1].upper() + refusal.message[1:] + ".", code=refusal.code) from None

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        given, url = cleaned.get("header_lines"), cleaned.get("url")
        if given is None or url is None:
            return cleaned
        moves = url != self.present_url
        seen = self.data.get(self.add_initial_prefix("url"), self.present_url)
        if "header_lines" in self.changed_data and not moves and seen != self.present_url:
            self.add_error(
                "header_lines", "The URL was changed meanwhile. These headers were meant for another receiver."
            )
            return cleaned
        try:
            if "header_lines" in self.changed_data or (moves and given):
                merged(given, {} if moves else self.instance.headers())
        except HeadersRefused as refusal:
            problems = refusal.problems
            if moves and None in given.values() and not self.is_new:
                problems = [
                    "Another URL is another receiver: give the values for it, or remove the headers.",
                    *problems,
                ]
            self.add_error("header_lines", problems)
        except SecretUnreadable:
            if None in given.values():
                self.add_error("header_lines", "The stored values cannot be read any more: give them again.")
        return cleaned

    def changes(self) -> dict[str, Any]:
        """What `endpoints.change` is to do."""
        cleaned, changed = self.cleaned_data, set(self.changed_data)
        found: dict[str, Any] = {name: cleaned[name] for name in _PLAIN if name in changed}
        if "header_lines" in changed or ("url" in changed and cleaned["header_lines"]):
            found["own_headers"] = cleaned["header_lines"]
        return found
