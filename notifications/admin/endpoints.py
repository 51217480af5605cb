"""Webhook endpoints: how they are doing, pausing, resuming, deleting."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timesince import timesince

from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import Role
from helpdesk.changes.admin import ReadOnlyAdmin, badge
from notifications.models import EndpointState, WebhookEndpoint
from notifications.webhooks import endpoints


class FailingFilter(admin.SimpleListFilter):
    title = "health"
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Failing"), ("no", "Working")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        if self.value() in ("yes", "no"):
            return queryset.filter(failing_since__isnull=self.value() == "no")
        return queryset


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnlyAdmin):
    list_display = ("url_text", "owner", "state_badge", "health", "last_success_at", "deliveries_link", "created_at")
    list_filter = ("state", FailingFilter, "breaker")
    list_select_related = ("owner",)
    search_fields = ("url", "description", "owner__username", "owner__name", "owner__email")
    search_help_text = "URL, description or owner"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("url", "owner", "description", "wanted_types", "is_primary", "deliveries_link")}),
        (
            "How it is doing",
            {
                "fields": (
                    "state_badge",
                    "disabled_reason",
                    "breaker",
                    "breaker_until",
                    "consecutive_failures",
                    "failing_since",
                    "last_failure",
                    "last_success_at",
                )
            },
        ),
        ("Dates", {"fields": ("created_at", "updated_at")}),
    )
    actions = ("pause", "resume")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return caller(request).role == Role.ADMIN

    def delete_model(self, request: HttpRequest, obj: WebhookEndpoint) -> None:
        endpoints.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in queryset:
            endpoints.delete(endpoint)

    @admin.display(description="URL", ordering="url")
    def url_text(self, endpoint: WebhookEndpoint) -> str:
        return Truncator(endpoint.url.removeprefix("https://")).chars(60)

    @admin.display(description="state", ordering="state")
    def state_badge(self, endpoint: WebhookEndpoint) -> SafeString:
        return badge("endpoint", endpoint.state, endpoint.get_state_display())

    @admin.display(description="health")
    def health(self, endpoint: WebhookEndpoint) -> str:
        if not endpoint.failing_since:
            return "–"
        return f"failing for {timesince(endpoint.failing_since, depth=1)}, {endpoint.consecutive_failures} in a row"

    @admin.display(description="types")
    def wanted_types(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.types) or "all"

    @admin.display(description="deliveries")
    def deliveries_link(self, endpoint: WebhookEndpoint) -> SafeString:
        url = reverse("admin:notifications_webhookdelivery_changelist")
        return format_html('<a href="{}?endpoint__id__exact={}">Deliveries</a>', url, endpoint.pk)

    @admin.action(description="Pause selected endpoints")
    def pause(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = 0
        for endpoint in queryset.exclude(state=EndpointState.PAUSED):
            endpoints.pause(endpoint)
            count += 1
        messages.success(request, f"{count} paused. What is due meanwhile is held.")

    @admin.action(description="Resume selected endpoints")
    def resume(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = released = 0
        for endpoint in queryset:
            released += endpoints.resume(endpoint)
            count += 1
        messages.success(request, f"{count} resumed, {released} held deliveries are being sent.")
