from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from helpdesk.accounts import signals
from helpdesk.changes.models import EmittingModel, EmittingQuerySet


class Role(models.TextChoices):
    CUSTOMER = "customer", "Customer"
    AGENT = "agent", "Agent"
    ADMIN = "admin", "Administrator"


STAFF_ROLES = frozenset({Role.AGENT, Role.ADMIN})


class UserQuerySet(EmittingQuerySet):
    def visible_to(self, user: "User") -> "UserQuerySet":
        """Administrators see everyone; anyone else only themselves (others' names come with tickets and comments)."""
        if user.role == Role.ADMIN:
            return self
        return self.filter(pk=user.pk)

    def active(self) -> "UserQuerySet":
        return self.filter(is_active=True)

    def staff(self) -> "UserQuerySet":
        return self.filter(role__in=STAFF_ROLES)


class UserManager(BaseUserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    def create_user(self, username: str, email: str = "", password: str | None = None, **fields: Any) -> "User":
        """Without a password nobody can sign in as this person (an imported requester, say)."""
        user = self.model(username=self.model.normalize_username(username), email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, username: str, email: str = "", password: str | None = None, **fields: Any) -> "User":
        return self.create_user(username, email, password, **{**fields, "role": Role.ADMIN})

    def get_by_natural_key(self, login: str) -> "User":
        """Sign-in takes the username or the e-mail address, in any letter case."""
        # Written as the unique indexes are, so that they serve it.
        wanted = Lower(models.Value(login))
        return self.alias(lower_username=Lower("username"), lower_email=Lower("email")).get(
            models.Q(lower_username=wanted) | (models.Q(lower_email=wanted) & ~models.Q(email=""))
        )


class User(EmittingModel, AbstractBaseUser, PermissionsMixin):
    """A person. What they may do follows from `role` alone; `is_staff` and `is_superuser` are derived from it."""

    watched = ("username", "email", "name", "role", "is_active")
    emits = {"created": signals.user_created, "updated": signals.user_updated}

    username = models.CharField(
        max_length=150,
        unique=True,
        validators=[UnicodeUsernameValidator()],
        error_messages={"unique": "A person with that username exists already."},
    )
    email = models.EmailField("e-mail address", blank=True)
    name = models.CharField("full name", max_length=150, blank=True)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.CUSTOMER)
    is_active = models.BooleanField(
        "active",
        default=True,
        help_text="Deactivated people keep their tickets and comments, but can no longer sign in.",
    )
    deactivated_at = models.DateTimeField(null=True, blank=True, editable=False)
    is_staff = models.BooleanField(default=False, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        ordering = ["username"]
        constraints = [
            models.UniqueConstraint(Lower("username"), name="user_username_any_case"),
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="user_email_any_case",
                violation_error_message="A person with that e-mail address exists already.",
            ),
        ]
        indexes = [models.Index(fields=["role", "is_active"], name="user_role")]

    def __str__(self) -> str:
        return self.display_name

    @property
    def display_name(self) -> str:
        return self.name or self.username

    @property
    def is_agent_or_admin(self) -> bool:
        return self.role in STAFF_ROLES

    def clean(self) -> None:
        super().clean()
        if "@" in self.username and self.username.lower() != self.email.lower():
            # Otherwise one person's username could be another's e-mail address, and sign-in would be ambiguous.
            raise ValidationError({"username": "A username with an @ must be the person's own e-mail address."})

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.is_staff = self.role in STAFF_ROLES
        self.is_superuser = self.role == Role.ADMIN
        if self.is_active:
            self.deactivated_at = None
        elif self.deactivated_at is None:
            self.deactivated_at = timezone.now()
        update_fields = kwargs.get("update_fields")
        if update_fields is not None and {"role", "is_active"} & set(update_fields):
            kwargs["update_fields"] = {*update_fields, "is_staff", "is_superuser", "deactivated_at"}
        super().save(*args, **kwargs)

    def signal_for(self, action: str, changes: dict[str, list]) -> Any:
        if action == "updated" and changes.get("is_active") == [True, False]:
            return signals.user_deactivated
        return super().signal_for(action, changes)

    def deactivate(self) -> None:
        """End this person's access. Open sockets close, tokens and sessions stop working, deliveries are cancelled."""
        self.is_active = False
        self.save(update_fields=["is_active"])
