"""The admin site as the staff's back office."""

from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from rest_framework.throttling import SimpleRateThrottle

from comments.models import Comment
from helpdesk.accounts.authentication import caller, sign_out_another
from helpdesk.accounts.models import STAFF_ROLES, User
from helpdesk.backoffice import dashboard
from knowledge.models import Article
from notifications.models import Event, Notification, WebhookDelivery, WebhookEndpoint, WebhookRecovery
from tickets.models import Attachment, Ticket

# The order in which staff need them.
_APPS = ("tickets", "comments", "knowledge", "notifications", "accounts")
_NAVIGATION = (
    ("Tickets", Ticket),
    ("Comments", Comment),
    ("Attachments", Attachment),
    ("Articles", Article),
    ("Notifications", Notification),
    ("People", User),
    ("Endpoints", WebhookEndpoint),
    ("Deliveries", WebhookDelivery),
    ("Recoveries", WebhookRecovery),
    ("Events", Event),
)


class Autocompletion(AutocompleteJsonView):
    """What a field with a search box offers.

    Whoever may change tickets finds the people that a ticket can be given to or opened for, although only
    administrators see the list of people.
    """

    def _chooses_person_of_ticket(self) -> bool:
        return self.source_field.model is Ticket and self.source_field.related_model is User

    def has_perm(self, request: HttpRequest, obj: Any = None) -> bool:
        if self._chooses_person_of_ticket():
            return bool(request.user.has_perm("tickets.change_ticket"))
        return super().has_perm(request, obj)

    def get_queryset(self) -> QuerySet:
        if not self._chooses_person_of_ticket():
            return super().get_queryset()
        people = User.objects.active().order_by("username")
        if self.source_field.name == "assignee":
            people = people.staff()
        return self.model_admin.get_search_results(self.request, people, self.term)[0]

    def serialize_result(self, obj: Any, to_field_name: str) -> dict[str, str]:
        result = super().serialize_result(obj, to_field_name)
        if isinstance(obj, User):
            # Two people may have the same name.
            result["text"] = f"{obj.display_name} ({obj.email or obj.username})"
        return result


class SignInThrottle(SimpleRateThrottle):
    """The limit of the API's sign-in, counted together with it."""

    scope = "sign-in"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class SignInForm(AdminAuthenticationForm):
    def clean(self) -> dict[str, Any]:
        if not SignInThrottle().allow_request(cast(Any, self.request), cast(Any, None)):
            raise ValidationError("Too many attempts to sign in. Please wait a minute.", code="throttled")
        return super().clean()

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        sign_out_another(cast(HttpRequest, self.request), user)


class BackofficeSite(admin.AdminSite):
    site_header = site_title = "Helpdesk"
    index_title = "Back office"
    index_template = "backoffice/index.html"
    login_form = SignInForm
    site_url = None
    enable_nav_sidebar = False  # tables need the room; the links are in the header

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.role in STAFF_ROLES)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "navigation": self._navigation(request)}

    def _navigation(self, request: HttpRequest) -> list[tuple[str, str]]:
        """The lists that this person works with, as label and URL."""
        if not self.has_permission(request):
            return []
        return [
            (label, reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
            for label, model in _NAVIGATION
            if self.get_model_admin(model).has_view_permission(request)
        ]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        return sorted(super().get_app_list(request, app_label), key=lambda app: _APPS.index(app["app_label"]))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, {**dashboard.numbers(caller(request)), **(extra_context or {})})

    def autocomplete_view(self, request: HttpRequest) -> Any:
        return Autocompletion.as_view(admin_site=self)(request)
