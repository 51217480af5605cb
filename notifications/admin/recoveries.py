"""Recoveries: what endpoints missed, sent again at a bounded rate; asking for one, watching it, cancelling it."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from helpdesk.accounts.authentication import caller
from helpdesk.changes.admin import IdSelect, ReadOnlyAdmin, badge, does_not_exist
from notifications.admin.subjects import page_of
from notifications.management.output import duration
from notifications.models import DeliveryState, WebhookEndpoint, WebhookRecovery
from notifications.webhooks import recovery
from notifications.webhooks.recovery import LEFT_OUT, NOT_ARRIVED, RECOVERABLE, RecoveryRefused, Span


class RecoveryForm(forms.Form):
    """What to send again. `span()` and `per_minute()` of a valid form are what a recovery needs."""

    endpoint = forms.ModelChoiceField(
        WebhookEndpoint.objects.none(),
        widget=IdSelect(WebhookRecovery._meta.get_field("endpoint"), admin.site),
    )
    since = forms.SplitDateTimeField(
        widget=AdminSplitDateTime, help_text="Deliveries created at or after this time (UTC) …"
    )
    until = forms.SplitDateTimeField(
        widget=AdminSplitDateTime, required=False, help_text="… and before this one. Now, unless it is given."
    )
    states = forms.MultipleChoiceField(
        choices=[(state, DeliveryState(state).label) for state in RECOVERABLE],
        initial=list(NOT_ARRIVED),
        widget=forms.CheckboxSelectMultiple,
        help_text="What is delivered or cancelled is sent again only if you choose so.",
    )
    per_minute = forms.IntegerField(
        label="per minute",
        min_value=1,
        help_text="How many are sent again in a minute, behind whatever is new.",
    )

    def __init__(self, *args: Any, endpoints: QuerySet[WebhookEndpoint], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["endpoint"].queryset = endpoints  # type: ignore[attr-defined]
        self.fields["per_minute"].initial = settings.WEBHOOK_RECOVERY_PER_MINUTE

    def clean_endpoint(self) -> WebhookEndpoint:
        endpoint = self.cleaned_data["endpoint"]
        try:
            recovery.check(endpoint)
        except RecoveryRefused as refusal:
            raise ValidationError(str(refusal), code=refusal.code) from None
        return endpoint

    def clean_per_minute(self) -> int:
        per_minute = self.cleaned_data["per_minute"]
        if per_minute > settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE:
            raise ValidationError(f"At most {settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE} (a setting).")
        return per_minute

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until") or timezone.now()
        if since and since >= until:
            self.add_error("since", "It must be before “until”, which is now unless it is given.")
        return cleaned

    def span(self) -> Span:
        data = self.cleaned_data
        return Span(data["since"], data["until"] or timezone.now(), tuple(data["states"]))


@admin.register(WebhookRecovery)
class WebhookRecoveryAdmin(ReadOnlyAdmin):
    list_display = ("state_badge", "endpoint_text", "progress", "since", "asked_by", "created_at")
    list_display_links = ("state_badge", "endpoint_text")
    list_filter = ("state",)
    list_select_related = ("endpoint", "requested_by")
    search_fields = ("endpoint__url", "endpoint__owner__username", "endpoint__owner__name")
    search_help_text = "The URL or the owner of the endpoint"
    ordering = ("-id",)
    fields = (
        "state_badge",
        "state_reason",
        "progress",
        "time_left",
        "endpoint_link",
        "since",
        "until",
        "states_text",
        "per_minute",
        "asked_by",
        "created_at",
        "finished_at",
    )
    change_form_template = "backoffice/recovery.html"
    actions = ("cancel_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookRecovery]:
        return super().get_queryset(request).select_related("endpoint__owner", "requested_by")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("notifications.add_webhookrecovery"))

    def get_urls(self) -> list:
        view = self.admin_site.admin_view(self.cancel_view)
        return [
            path("<path:object_id>/cancel/", view, name="notifications_webhookrecovery_cancel"),
            *super().get_urls(),
        ]

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ask for a recovery: first what it would do, then do it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = RecoveryForm(
            request.POST if request.method == "POST" else None,
            initial={"endpoint": request.GET.get("endpoint", "")[:36]},
            endpoints=WebhookEndpoint.objects.visible_to(caller(request)).order_by("-id"),
        )
        estimate = None
        if request.method == "POST" and form.is_valid():
            endpoint, per_minute = form.cleaned_data["endpoint"], form.cleaned_data["per_minute"]
            if "_start" in request.POST:
                try:
                    begun = recovery.start(endpoint, form.span(), per_minute, caller(request))
                    return HttpResponseRedirect(reverse("admin:notifications_webhookrecovery_change", args=[begun.pk]))
                except RecoveryRefused as refusal:
                    form.add_error("endpoint", str(refusal))
            else:
                estimate = recovery.estimate(endpoint, form.span(), per_minute)
        context = {
            **self.admin_site.each_context(request),
            "title": "Send again what an endpoint missed",
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "estimate": estimate,
            "takes": duration(estimate.seconds) if estimate and estimate.seconds else "",
            "left_out": [(number, LEFT_OUT[reason]) for reason, number in estimate.left_out.items()]
            if estimate
            else [],
        }
        return TemplateResponse(request, "backoffice/recover.html", context, status=400 if form.errors else 200)

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        found = self.get_object(request, unquote(object_id))
        if found is None:
            return does_not_exist(request, WebhookRecovery, object_id)
        if request.method == "POST":
            self.cancel_selected(request, self.get_queryset(request).filter(pk=found.pk))
        return HttpResponseRedirect(reverse("admin:notifications_webhookrecovery_change", args=[found.pk]))

    @admin.action(description="Cancel selected recoveries")
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[WebhookRecovery]) -> None:
        chosen = list(queryset)
        count = sum(recovery.cancel(found, caller(request).display_name) for found in chosen)
        if count:
            messages.success(request, f"{count} cancelled. What has been released is sent all the same.")
        if count < len(chosen):
            messages.warning(request, f"{len(chosen) - count} over already.")

    @admin.display(description="state", ordering="state")
    def state_badge(self, found: WebhookRecovery) -> SafeString:
        return badge("recovery", found.state, found.get_state_display())

    @admin.display(description="endpoint", ordering="endpoint__url")
    def endpoint_text(self, found: WebhookRecovery) -> str:
        return Truncator(found.endpoint.url.removeprefix("https://")).chars(45)

    @admin.display(description="endpoint")
    def endpoint_link(self, found: WebhookRecovery) -> SafeString | str:
        if found.endpoint.deleted_at:
            return f"{found.endpoint.url} (deleted)"
        return format_html('<a href="{}">{}</a>', page_of("webhook", found.endpoint_id), found.endpoint.url)

    @admin.display(description="released")
    def progress(self, found: WebhookRecovery) -> SafeString:
        return format_html(
            '<progress value="{}" max="{}"></progress> {} of {}',
            found.released if found.total else 1,
            found.total or 1,
            f"{found.released:,}",
            f"{found.total:,}",
        )

    @admin.display(description="time left")
    def time_left(self, found: WebhookRecovery) -> str:
        return f"about {duration(found.seconds_left)} (this page reloads itself)" if found.is_running else "–"

    @admin.display(description="states")
    def states_text(self, found: WebhookRecovery) -> str:
        return ", ".join(str(DeliveryState(state).label) for state in found.states)

    @admin.display(description="asked for by", ordering="requested_by__username")
    def asked_by(self, found: WebhookRecovery) -> str:
        return found.requested_by.display_name if found.requested_by else "an operator, by command"
