"""People in the admin: administrators add them, change them and deactivate them. Nobody is ever deleted."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helpdesk.accounts.models import Role, User
from helpdesk.changes.actor import current_actor
from helpdesk.changes.admin import ChangesForm, VisibleAdmin, badge
from helpdesk.changes.unit import unit

_SIGN_IN_DISABLED = "Disabled: nobody can sign in as this person until a password is set."


def _refuse_without_administrator(leaving: User) -> None:
    """ValidationError when nobody would be left to manage people. Must run inside the change's transaction.

    The administrators are locked, so that two who take each other's role away at once do not both succeed.
    """
    administrators = User.objects.select_for_update().filter(role=Role.ADMIN, is_active=True)
    ids = set(administrators.values_list("pk", flat=True))
    if ids == {leaving.pk}:
        raise ValidationError("This is the last active administrator: make someone else one first.")


class _UsernameCheck(forms.ModelForm):
    """The database takes a username in one letter case only; say so beside the field."""

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        if User.objects.filter(username__iexact=username).exclude(pk=self.instance.pk).exists():
            raise ValidationError("A person with that username exists already.")
        return username


class NewPersonForm(_UsernameCheck, AdminUserCreationForm):
    usable_password = AdminUserCreationForm.create_usable_password_field(_SIGN_IN_DISABLED)

    class Meta(AdminUserCreationForm.Meta):
        model = User
        fields = ("username", "email", "name", "role")


class PersonForm(_UsernameCheck, ChangesForm):
    class Meta:
        model = User
        fields = ("username", "email", "name", "role", "is_active")

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        # The instance still is as it was loaded: the form's values are set on it after this.
        was_administrator = self.instance.is_active and self.instance.role == Role.ADMIN
        active, role = self.cleaned_data.get("is_active"), self.cleaned_data.get("role")
        if not active and self.instance == current_actor():
            self.add_error("is_active", "You cannot deactivate yourself.")
        elif was_administrator and not (active and role == Role.ADMIN):
            try:
                _refuse_without_administrator(self.instance)
            except ValidationError as error:
                self.add_error("role" if active else "is_active", error)
        return cleaned


class PasswordForm(AdminPasswordChangeForm):
    usable_password_help_text = _SIGN_IN_DISABLED


@admin.register(User)
class PersonAdmin(VisibleAdmin, BaseUserAdmin):
    form = PersonForm
    add_form = NewPersonForm
    change_password_form = PasswordForm
    list_display = ("username", "name", "email", "role_badge", "is_active", "last_login", "created_at")
    list_filter = ("role", "is_active")
    search_fields = ("username", "name", "email")
    search_help_text = "Username, name or e-mail address"
    ordering = ("username",)
    filter_horizontal = ()
    readonly_fields = ("password_link", "created_at", "last_login", "deactivated_at")
    fieldsets = (
        (None, {"fields": ("username", "name", "email", "password_link")}),
        ("What they may do", {"fields": ("role", "is_active", "deactivated_at")}),
        ("Dates", {"fields": ("created_at", "last_login")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "name", "email", "role")}),
        ("Password", {"fields": ("usable_password", "password1", "password2")}),
    )
    actions = ("deactivate",)

    @admin.display(description="role", ordering="role")
    def role_badge(self, person: User) -> SafeString:
        return badge("role", person.role, person.get_role_display())

    @admin.display(description="password")
    def password_link(self, person: User) -> SafeString:
        # Not even a part of the hash is shown.
        text = "Set another password" if person.has_usable_password() else "None: set one so that they can sign in"
        return format_html('<a href="{}">{}</a>', reverse("admin:auth_user_password_change", args=[person.pk]), text)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            messages.error(request, "Someone else has just taken that username or e-mail address. Nothing was saved.")
            return HttpResponseRedirect(request.get_full_path())

    @admin.action(description="Deactivate selected people", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        if request.POST.get("select_across") == "1":
            messages.error(request, "People are deactivated one page at a time at most. Nobody was deactivated.")
            return
        deactivated = []
        with unit():
            for person in queryset.filter(is_active=True):
                try:
                    if person == request.user:
                        raise ValidationError("You cannot deactivate yourself.")
                    if person.role == Role.ADMIN:
                        _refuse_without_administrator(person)
                except ValidationError as error:
                    messages.error(request, f"{person.display_name}: {error.message}")
                else:
                    person.deactivate()
                    deactivated.append(person.display_name)
        if deactivated:
            messages.success(request, f"Deactivated: {', '.join(deactivated)}.")
