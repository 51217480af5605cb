from collections.abc import Collection, Iterator
from typing import Any, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac

from helpdesk.accounts import signals
from helpdesk.changes.models import EmittingModel, EmittingQuerySet
from helpdesk.changes.unit import unit


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
    # Tokens and sessions belong to the epoch in which they began. A new epoch ends them all, and for good.
    # (`db_default`: the code of before this field adds people too while an upgrade rolls.)
    sign_in_epoch = models.PositiveIntegerField(default=0, db_default=0, editable=False)

    # As it is stored. Apart from the watched fields: no hash of a password goes into an event.
    _known_password: str | None = None

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
        epochs = 0
        if self.is_active:
            self.deactivated_at = None
            # Once more: whoever was deactivated by a bulk update has the old one.
            epochs = int(self._known.get("is_active") is False)
        elif self.deactivated_at is None:
            self.deactivated_at = timezone.now()
            epochs = 1
        update_fields = kwargs.get("update_fields")
        if update_fields is not None and {"role", "is_active"} & set(update_fields):
            kwargs["update_fields"] = {*update_fields, "is_staff", "is_superuser", "deactivated_at", "sign_in_epoch"}
        epoch = self.sign_in_epoch + epochs
        if not self._state.adding:
            # Counted by the database: an object that was loaded a while ago must not bring an ended epoch back.
            self.sign_in_epoch = models.F("sign_in_epoch") + epochs
        try:
            with unit():
                new_password = self._has_new_password(kwargs.get("update_fields"))
                super().save(*args, **kwargs)
                if new_password:
                    signals.sign_ins_ended.send(User, user_id=self.pk)
        finally:
            self.sign_in_epoch = epoch
        self._known_password = self.__dict__.get("password")

    def _has_new_password(self, update_fields: Any) -> bool:
        if self._state.adding or (update_fields is not None and "password" not in update_fields):
            return False
        return self._known_password is not None and self._known_password != self.password

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **kwargs: Any) -> Self:
        user = super().from_db(db, field_names, values, **kwargs)
        user._known_password = user.__dict__.get("password")
        return user

    def signal_for(self, action: str, changes: dict[str, list]) -> Any:
        if action == "updated" and changes.get("is_active") == [True, False]:
            return signals.user_deactivated
        return super().signal_for(action, changes)

    def deactivate(self) -> None:
        """End this person's access. Open sockets close, tokens and sessions stop working, deliveries are cancelled."""
        self.is_active = False
        self.save(update_fields=["is_active"])

    def sign_out_everywhere(self) -> None:
        """End every token and every session of this person, and the sockets that were opened with them."""
        with unit():
            User.objects.filter(pk=self.pk).update_without_signals(sign_in_epoch=models.F("sign_in_epoch") + 1)
            self.sign_in_epoch = User.objects.values_list("sign_in_epoch", flat=True).get(pk=self.pk)
            signals.sign_ins_ended.send(User, user_id=self.pk)

    def get_session_auth_hash(self) -> str:
        """What a session holds of its person's sign-in: another password or epoch, and it has ended."""
        return self._in_epoch(super().get_session_auth_hash())

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        return map(self._in_epoch, super().get_session_auth_fallback_hash())

    def _in_epoch(self, password_hash: str) -> str:
        if not self.sign_in_epoch:
            return password_hash  # as Django has it: sessions from before there were epochs live on
        return salted_hmac("helpdesk.sign_in_epoch", f"{password_hash}{self.sign_in_epoch}").hexdigest()
