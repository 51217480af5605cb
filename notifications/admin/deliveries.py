"""Webhook deliveries with their attempts, and sending them again."""

from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timesince import timesince

from helpdesk.accounts.authentication import caller
from helpdesk.changes.admin import FixedChoicesFilter, ReadOnlyAdmin, badge, does_not_exist, preformatted
from notifications import catalogue
from notifications.admin.subjects import id_in, is_example, page_of
from notifications.models import WebhookAttempt, WebhookDelivery
from notifications.webhooks import recovery

# Attempts shown with a delivery. A schedule has ten; only what was redelivered again and again has more.
MAX_ATTEMPTS_SHOWN = 50


class DeliveryTypeFilter(FixedChoicesFilter):
    title = "type"
    parameter_name = "notification__type"
    choices_known = [(type_, type_) for type_ in catalogue.TYPES]


class _BoundedAttempts(BaseInlineFormSet):
    def get_queryset(self) -> QuerySet:
        return super().get_queryset()[:MAX_ATTEMPTS_SHOWN]


class AttemptInline(admin.StackedInline):
    model = WebhookAttempt
    formset = _BoundedAttempts
    template = "backoffice/attempts.html"
    ordering = ("-started_at",)
    extra = 0
    can_delete = False
    fields = readonly_fields = ("number",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Whoever may see the delivery. The list of all attempts is another matter: that is for administrators.
        return bool(request.user.has_perm("notifications.view_webhookdelivery"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("state_badge", "type", "endpoint_text", "owner", "age", "attempts", "reason")
    list_display_links = ("state_badge", "type")
    list_filter = ("state", DeliveryTypeFilter)
    list_select_related = ("endpoint__owner", "notification")
    search_fields = ("endpoint__url", "endpoint__owner__username", "endpoint__owner__name")
    search_help_text = "The webhook-id (msg_…), the URL or the owner of the endpoint"
    ordering = ("-id",)  # the order they were made in, straight off the primary key
    fields = (
        "state_badge",
        "state_reason",
        "message_id",
        "type",
        "about",
        "endpoint_link",
        "owner",
        "created_at",
        "attempt_count",
        "next_attempt_at",
        "delivered_at",
    )
    inlines = (AttemptInline,)
    change_form_template = "backoffice/delivery.html"
    actions = ("redeliver_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        return super().get_queryset(request).select_related("endpoint__owner", "notification__event")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        id_ = id_in(search_term)
        if id_ is not None:
            return queryset.filter(pk=id_), False
        return super().get_search_results(request, queryset, search_term)

    def get_urls(self) -> list:
        view = self.admin_site.admin_view(self.redeliver_view)
        return [
            path("<path:object_id>/redeliver/", view, name="notifications_webhookdelivery_redeliver"),
            *super().get_urls(),
        ]

    def redeliver_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        delivery = self.get_object(request, unquote(object_id))
        if delivery is None:
            return does_not_exist(request, WebhookDelivery, object_id)
        if request.method == "POST":
            self.redeliver_selected(request, self.get_queryset(request).filter(pk=delivery.pk))
        return HttpResponseRedirect(reverse("admin:notifications_webhookdelivery_change", args=[delivery.pk]))

    @admin.action(description="Redeliver selected")
    def redeliver_selected(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        chosen = list(queryset.select_related("endpoint")[: recovery.AT_ONCE + 1])
        if len(chosen) > recovery.AT_ONCE:
            messages.error(
                request,
                f"Select at most {recovery.AT_ONCE}. For more there are recoveries: all that an endpoint missed since "
                "a time, at a bounded rate.",
            )
            return
        obstacles = [recovery.obstacle(delivery) for delivery in chosen]
        count = recovery.redeliver([it for it, obstacle in zip(chosen, obstacles, strict=True) if obstacle is None])
        if count:
            messages.success(request, f"{count} {'delivery is' if count == 1 else 'deliveries are'} sent again.")
        for reason, number in Counter(filter(None, obstacles)).items():
            messages.warning(request, f"{number} left alone: {recovery.LEFT_OUT[reason]}.")

    @admin.display(description="state", ordering="state")
    def state_badge(self, delivery: WebhookDelivery) -> SafeString:
        return badge("delivery", delivery.state, delivery.get_state_display())

    @admin.display(description="type", ordering="notification__type")
    def type(self, delivery: WebhookDelivery) -> str:
        return delivery.notification.type

    @admin.display(description="endpoint", ordering="endpoint__url")
    def endpoint_text(self, delivery: WebhookDelivery) -> str:
        return Truncator(delivery.endpoint.url.removeprefix("https://")).chars(45)

    @admin.display(description="endpoint")
    def endpoint_link(self, delivery: WebhookDelivery) -> SafeString | str:
        if delivery.endpoint.deleted_at:
            return f"{delivery.endpoint.url} (deleted)"
        return format_html('<a href="{}">{}</a>', page_of("webhook", delivery.endpoint_id), delivery.endpoint.url)

    @admin.display(description="owner", ordering="endpoint__owner__username")
    def owner(self, delivery: WebhookDelivery) -> str:
        return delivery.endpoint.owner.display_name

    @admin.display(description="age", ordering="-id")
    def age(self, delivery: WebhookDelivery) -> str:
        return timesince(delivery.created_at, depth=1)

    @admin.display(description="attempts", ordering="attempt_count")
    def attempts(self, delivery: WebhookDelivery) -> int:
        return delivery.attempt_count

    @admin.display(description="reason")
    def reason(self, delivery: WebhookDelivery) -> str:
        return Truncator(delivery.state_reason).chars(80) or "–"

    @admin.display(description="about")
    def about(self, delivery: WebhookDelivery) -> SafeString | str:
        notification = delivery.notification
        if is_example(notification):
            return f"{notification.related_type} of a test, which does not exist"
        url = page_of(notification.related_type, notification.related_id, notification.event.ticket_id)
        return format_html('<a href="{}">{} {}</a>', url, notification.related_type, notification.related_id)


@admin.register(WebhookAttempt)
class WebhookAttemptAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "delivery_id", "number", "succeeded", "status_code", "diagnosis_text", "duration")
    list_filter = ("succeeded",)
    search_fields = ("diagnosis", "error_code")
    search_help_text = "Words of the diagnosis, or the id of the delivery"
    ordering = ("-id",)
    fields = (
        "delivery",
        "number",
        "started_at",
        "succeeded",
        "status_code",
        "error_code",
        "diagnosis",
        "address",
        "dns_ms",
        "connect_ms",
        "tls_ms",
        "first_byte_ms",
        "total_ms",
        "head_text",
        "body_text",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookAttempt]:
        visible = WebhookDelivery.objects.visible_to(caller(request))
        return WebhookAttempt.objects.filter(delivery__in=visible).order_by(*self.ordering)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookAttempt], search_term: str
    ) -> tuple[QuerySet[WebhookAttempt], bool]:
        id_ = id_in(search_term)
        if id_ is not None:
            return queryset.filter(delivery_id=id_), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="diagnosis")
    def diagnosis_text(self, attempt: WebhookAttempt) -> str:
        return Truncator(attempt.diagnosis).chars(80) or "–"

    @admin.display(description="took", ordering="total_ms")
    def duration(self, attempt: WebhookAttempt) -> str:
        return "–" if attempt.total_ms is None else f"{attempt.total_ms:.0f} ms"

    @admin.display(description="response head")
    def head_text(self, attempt: WebhookAttempt) -> SafeString | str:
        return preformatted(attempt.response_head)

    @admin.display(description="response body")
    def body_text(self, attempt: WebhookAttempt) -> SafeString | str:
        return preformatted(attempt.response_body)
