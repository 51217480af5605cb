"""Webhook endpoints: added, changed, tried out and looked after by their owners, and everyone's by administrators."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from rest_framework.throttling import SimpleRateThrottle

from helpdesk.accounts.authentication import caller
from helpdesk.changes.admin import VisibleAdmin, badge, does_not_exist
from notifications import catalogue, examples
from notifications.admin.endpoint_form import EndpointForm
from notifications.admin.subjects import id_in
from notifications.encryption import SecretUnreadable
from notifications.models import BreakerState, EndpointState, WebhookAttempt, WebhookEndpoint
from notifications.webhooks import conformance, endpoint_health, endpoints, trial, turns

NEWEST_DELIVERIES = 10

_NAME = "notifications_webhookendpoint"
# In words for people who never heard of a circuit breaker; closed is nothing to speak of.
_BREAKER_LABELS: dict[str, str] = {BreakerState.OPEN: "Left alone", BreakerState.HALF_OPEN: "Recovering"}


class FailingFilter(admin.SimpleListFilter):
    title = "health"
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Failing"), ("no", "Working")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        if self.value() in ("yes", "no"):
            return queryset.filter(failing_since__isnull=self.value() == "no")
        return queryset


class TrialThrottle(SimpleRateThrottle):
    """The limit of the API's tests and checks, counted together with them."""

    scope = "webhook-test"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": request.user.pk}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(VisibleAdmin):
    form = EndpointForm  # type: ignore[assignment]  # saves by `endpoints`, not by itself
    list_display = ("url_text", "owner", "state_badge", "health", "arrived", "deliveries_link")
    list_filter = ("state", FailingFilter, "breaker")
    list_select_related = ("owner",)
    search_fields = ("url", "description", "owner__username", "owner__name", "owner__email")
    search_help_text = "URL, description or owner"
    ordering = ("-id",)
    fields = ("url", "description", "types", "header_lines", "rate_limit", "ordered")
    change_form_template = "backoffice/endpoint.html"
    actions = ("pause", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        return endpoint_health.with_recent(super().get_queryset(request)).select_related("owner")

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(request, *args, **kwargs)
        cast(Any, form).origin = f"{request.scheme}://{request.get_host()}"
        return form

    # --- adding, changing, deleting ---------------------------------------------------------------------------------
    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        changes = form.changes()
        if change:
            # The form has written into `obj` already; what is there has to be compared with what is to be.
            present = WebhookEndpoint.objects.get(pk=obj.pk)
            secret = endpoints.change(present, **changes)
        else:
            present, secret = endpoints.create(caller(request), **changes)
        obj.__dict__.update(present.__dict__)
        cast(Any, request).new_secret = secret

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        try:
            return super().add_view(request, form_url, extra_context)
        except endpoints.TooManyEndpoints as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse(f"admin:{_NAME}_changelist"))

    def response_add(self, request: HttpRequest, obj: WebhookEndpoint, *args: Any) -> HttpResponse:
        return self._secret_page(request, obj, cast(Any, request).new_secret)

    def response_change(self, request: HttpRequest, obj: WebhookEndpoint) -> HttpResponse:
        secret = cast(Any, request).new_secret
        return self._secret_page(request, obj, secret) if secret else super().response_change(request, obj)

    def delete_model(self, request: HttpRequest, obj: WebhookEndpoint) -> None:
        endpoints.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in queryset:
            endpoints.delete(endpoint)

    # --- the page ---------------------------------------------------------------------------------------------------
    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        endpoint = kwargs.get("obj")
        if endpoint is not None:
            context |= self._page(request, endpoint)
        return super().render_change_form(request, context, *args, **kwargs)

    def _page(self, request: HttpRequest, endpoint: WebhookEndpoint) -> dict[str, Any]:
        """What the page shows besides the form: how the endpoint is doing, and what was asked for."""
        # As it is stored: a form that was refused has written into the other one.
        endpoint = self.get_queryset(request).get(pk=endpoint.pk)
        recent = endpoint_health.recent_of(endpoint)
        asked, attempt_id = request.GET.get("example", ""), id_in(request.GET.get("attempt", ""))
        attempt = (
            WebhookAttempt.objects.filter(pk=attempt_id, delivery__endpoint=endpoint)
            .select_related("delivery__notification")
            .first()
            if attempt_id
            else None
        )
        example = None
        if asked in catalogue.TYPES:
            example = json.dumps(examples.of(asked).body(endpoint.owner.role), indent=2, ensure_ascii=False)
        return {
            "original": endpoint,
            "sentence": endpoint_health.sentence(endpoint),
            "breaker_label": _BREAKER_LABELS.get(endpoint.breaker),
            "recent": recent,
            "rate": _percent(recent),
            "types": catalogue.TYPES,
            "chosen_type": asked or (attempt.delivery.notification.type if attempt else catalogue.WEBHOOK_TEST),
            "example": example,
            "attempt": attempt,
            "deliveries": endpoint.deliveries.select_related("notification").order_by("-created_at", "-id")[
                :NEWEST_DELIVERIES
            ],
        }

    # --- its buttons ------------------------------------------------------------------------------------------------
    def get_urls(self) -> list:
        buttons: dict[str, Callable] = {
            "pause": self._pause,
            "resume": self._resume,
            "rotate": self._rotate,
            "test": self._test,
            "check": self._check,
        }
        return [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(self._button(act)), name=f"{_NAME}_{name}")
            for name, act in buttons.items()
        ] + super().get_urls()

    def _button(self, act: Callable[[HttpRequest, WebhookEndpoint], HttpResponse | None]) -> Callable:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if not self.has_change_permission(request):
                raise PermissionDenied
            endpoint = self.get_object(request, unquote(object_id))
            if endpoint is None:
                return does_not_exist(request, WebhookEndpoint, object_id)
            response = act(request, endpoint) if request.method == "POST" else None
            return response or HttpResponseRedirect(reverse(f"admin:{_NAME}_change", args=[endpoint.pk]))

        return view

    def _pause(self, request: HttpRequest, endpoint: WebhookEndpoint) -> None:
        if endpoint.state == EndpointState.ACTIVE:
            endpoints.pause(endpoint)
            self.log_change(request, endpoint, "Paused.")
        if endpoint.state == EndpointState.DISABLED:
            messages.warning(request, "It is disabled and gets nothing anyway: left as it is.")
        else:
            messages.success(request, "Paused. What is due meanwhile is held.")

    def _resume(self, request: HttpRequest, endpoint: WebhookEndpoint) -> None:
        held = endpoints.resume(endpoint)
        self.log_change(request, endpoint, "Resumed.")
        messages.success(request, f"Resumed. {_sent_now(held)}")

    def _rotate(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse:
        secret = endpoints.rotate_secret(endpoint)
        self.log_change(request, endpoint, "Made a new secret.")
        return self._secret_page(request, endpoint, secret)

    def _test(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse | None:
        type_ = request.POST.get("type", catalogue.WEBHOOK_TEST)
        if type_ not in catalogue.TYPES:
            messages.error(request, "There is no such notification type.")
        elif self._may_try(request):
            try:
                with turns.turn(caller(request).pk):
                    attempt = trial.send_test(endpoint, type_)
            except turns.Busy as error:
                messages.error(request, str(error))
            except trial.NotSent as error:
                messages.error(request, f"Nothing was sent: {error}")
            else:
                page = reverse(f"admin:{_NAME}_change", args=[endpoint.pk])
                return HttpResponseRedirect(f"{page}?attempt={attempt.pk}#try")
        return None

    def _check(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse | None:
        if endpoint.is_internal:
            messages.info(request, "The receiver inside this application needs no check.")
            return None
        if not self._may_try(request):
            return None
        try:
            with turns.turn(caller(request).pk):
                checks = conformance.check(endpoint.url, endpoint.secrets(), own_headers=endpoint.headers())
        except (SecretUnreadable, turns.Busy) as error:
            messages.error(request, str(error))
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Check of the receiver",
            "endpoint": endpoint,
            "checks": checks,
            "failed": sum(not check.passed for check in checks),
        }
        return TemplateResponse(request, "backoffice/endpoint_check.html", context)

    def _may_try(self, request: HttpRequest) -> bool:
        allowed = TrialThrottle().allow_request(cast(Any, request), cast(Any, None))
        if not allowed:
            messages.error(request, "Too many tests. Please wait a minute.")
        return allowed

    def _secret_page(self, request: HttpRequest, endpoint: WebhookEndpoint, secret: str) -> HttpResponse:
        """The one page that shows a secret: an answer to the request that made it, kept by nobody."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The secret of the endpoint",
            "endpoint": endpoint,
            "secret": secret,
            "overlap": endpoint.previous_secret_until if endpoint.encrypted_previous_secret else None,
        }
        return TemplateResponse(request, "backoffice/endpoint_secret.html", context)

    # --- the list ---------------------------------------------------------------------------------------------------
    @admin.display(description="URL", ordering="url")
    def url_text(self, endpoint: WebhookEndpoint) -> str:
        return Truncator(endpoint.url.removeprefix("https://")).chars(60)

    @admin.display(description="state", ordering="state")
    def state_badge(self, endpoint: WebhookEndpoint) -> SafeString:
        return badge("endpoint", endpoint.state, endpoint.get_state_display())

    @admin.display(description="health", ordering="failing_since")
    def health(self, endpoint: WebhookEndpoint) -> str:
        return endpoint_health.sentence(endpoint)

    @admin.display(description="arrived")
    def arrived(self, endpoint: WebhookEndpoint) -> str:
        recent = endpoint_health.recent_of(endpoint)
        return f"{_percent(recent)} %" if recent.tried else "–"

    @admin.display(description="deliveries")
    def deliveries_link(self, endpoint: WebhookEndpoint) -> SafeString:
        url = reverse("admin:notifications_webhookdelivery_changelist")
        return format_html('<a href="{}?endpoint__id__exact={}">Deliveries</a>', url, endpoint.pk)

    @admin.action(description="Pause selected endpoints", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        found = Counter[str]()
        for endpoint in queryset:
            found[endpoint.state] += 1
            if endpoint.state == EndpointState.ACTIVE:
                endpoints.pause(endpoint)
                self.log_change(request, endpoint, "Paused.")
        if count := found[EndpointState.ACTIVE]:
            messages.success(request, f"{count} paused. What is due meanwhile is held.")
        if count := found[EndpointState.PAUSED]:
            messages.info(request, f"{count} paused already.")
        if count := found[EndpointState.DISABLED]:
            messages.warning(request, f"{count} disabled, which get nothing anyway: left as they are.")

    @admin.action(description="Resume selected endpoints", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = held = 0
        for endpoint in queryset:
            held += endpoints.resume(endpoint)
            self.log_change(request, endpoint, "Resumed.")
            count += 1
        messages.success(request, f"{count} resumed. {_sent_now(held)}")


def _sent_now(held: int) -> str:
    if not held:
        return "Nothing was held."
    if held == 1:
        return "1 held delivery is sent now."
    return f"{held:,} held deliveries are sent now, as fast as they are taken."


def _percent(recent: endpoint_health.Recent) -> int:
    """Rounded down, so that 100 % means all."""
    return int(100 * recent.delivered / recent.tried) if recent.tried else 0
