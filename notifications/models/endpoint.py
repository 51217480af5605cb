from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import Role, User
from helpdesk.changes.identifiers import uuid7
from notifications.encryption import decrypt, encrypt


class EndpointState(models.TextChoices):
    ACTIVE = "active", "Active"
    PAUSED = "paused", "Paused"  # by its owner
    DISABLED = "disabled", "Disabled"  # by us: it failed for days, or answered 410


class BreakerState(models.TextChoices):
    CLOSED = "closed", "Closed"
    OPEN = "open", "Open"
    HALF_OPEN = "half_open", "Half open"


class WebhookEndpointQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """One's own; administrators manage everyone's."""
        endpoints = self.filter(deleted_at=None)
        if not user.is_active:
            return endpoints.none()
        return endpoints if user.role == Role.ADMIN else endpoints.filter(owner=user)


class WebhookEndpoint(models.Model):
    """Where one person's notifications are posted to."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="webhook_endpoints")
    url = models.CharField(max_length=2000, help_text="https://…, or a path of this application.")
    description = models.CharField(max_length=200, blank=True)
    is_primary = models.BooleanField(default=False, editable=False, help_text="The one behind /api/users/me/webhook.")
    types = models.JSONField(default=list, blank=True, help_text="Notification types it wants; empty means all.")
    state = models.CharField(max_length=10, choices=EndpointState.choices, default=EndpointState.ACTIVE)
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)

    encrypted_secret = models.TextField(editable=False)
    encrypted_previous_secret = models.TextField(blank=True, editable=False)
    previous_secret_until = models.DateTimeField(null=True, blank=True, editable=False)

    breaker = models.CharField(max_length=10, choices=BreakerState.choices, default=BreakerState.CLOSED, editable=False)
    breaker_until = models.DateTimeField(null=True, blank=True, editable=False)
    consecutive_failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_failure = models.CharField(max_length=300, blank=True, editable=False)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = models.Manager.from_queryset(WebhookEndpointQuerySet)()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner"],
                condition=models.Q(is_primary=True, deleted_at=None),
                name="one_primary_endpoint_per_owner",
            ),
        ]
        indexes = [
            models.Index(fields=["owner"], condition=models.Q(deleted_at=None), name="endpoint_owner"),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def is_internal(self) -> bool:
        """Whether this is a receiver of this very application, called in-process."""
        return self.url.startswith("/")

    def wants(self, type_: str) -> bool:
        return not self.types or type_ in self.types or type_ == "webhook_test"

    def set_secret(self, secret: str) -> None:
        self.encrypted_secret = encrypt(secret)

    def secrets(self) -> list[str]:
        """The secrets that sign now, newest first: two while a rotation overlaps."""
        found = [decrypt(self.encrypted_secret)]
        if self.encrypted_previous_secret and (self.previous_secret_until or timezone.now()) > timezone.now():
            found.append(decrypt(self.encrypted_previous_secret))
        return found
