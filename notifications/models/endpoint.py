import json
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
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
    OPEN = "open", "Open"  # nothing is sent until `breaker_until`
    HALF_OPEN = "half_open", "Half open"  # at most `breaker_limit` attempts at a time, in all workers together


MAX_RATE_LIMIT = 1000


class WebhookEndpointQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """One's own; administrators manage everyone's."""
        endpoints = self.filter(deleted_at=None)
        if not user.is_active:
            return endpoints.none()
        return endpoints if user.role == Role.ADMIN else endpoints.filter(owner=user)

    def gated(self) -> Self:
        """Those that a claim must look at before it takes a delivery of theirs."""
        return self.filter(GATED)


# In the words of the index `endpoint_gated`, so that PostgreSQL uses it.
GATED = (
    models.Q(breaker__in=["open", "half_open"])
    | models.Q(rate_limit__isnull=False)
    | models.Q(ordered=True)
    | models.Q(state__in=["paused", "disabled"])
    | models.Q(deleted_at__isnull=False)
)


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
    rate_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_RATE_LIMIT)],
        help_text="Attempts per second at most; empty means no limit.",
    )
    ordered = models.BooleanField(
        default=False,
        help_text="Webhooks of one ticket in order: each waits until the one before has arrived or was given up.",
    )

    encrypted_secret = models.TextField(editable=False)
    encrypted_previous_secret = models.TextField(blank=True, editable=False)
    previous_secret_until = models.DateTimeField(null=True, blank=True, editable=False)

    # Of its own, sent with every request. Names are shown, values never again: those are one token, a JSON list.
    header_names = models.JSONField(default=list, blank=True, editable=False)
    encrypted_header_values = models.TextField(blank=True, editable=False)

    breaker = models.CharField(max_length=10, choices=BreakerState.choices, default=BreakerState.CLOSED, editable=False)
    breaker_until = models.DateTimeField(null=True, blank=True, editable=False)
    breaker_limit = models.PositiveSmallIntegerField(default=1, editable=False)
    breaker_failures = models.PositiveIntegerField(
        default=0, editable=False, help_text="In a row, of the kind that opens the breaker."
    )
    breaker_openings = models.PositiveIntegerField(
        default=0, editable=False, help_text="How often it has opened since it was last closed."
    )
    # When the next attempt would be due, had all those so far kept exactly to the rate limit.
    paced_until = models.DateTimeField(null=True, blank=True, editable=False)
    # Some of its deliveries are held although it is active, and are to be released when it can take them.
    holding = models.BooleanField(default=False, editable=False)
    consecutive_failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_failure = models.CharField(max_length=300, blank=True, editable=False)
    last_failure_at = models.DateTimeField(null=True, blank=True, editable=False)

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
            models.Index(fields=["id"], condition=GATED, name="endpoint_gated"),
            models.Index(fields=["id"], condition=models.Q(holding=True), name="endpoint_holding"),
        ]

    def __str__(self) -> str:
        return self.receiver

    @property
    def is_internal(self) -> bool:
        """Whether this is a receiver of this very application, called in-process."""
        return self.url.startswith("/")

    @property
    def receiver(self) -> str:
        """Which one this is, for people to read: not the whole URL, since many have a secret in their path."""
        return urlsplit(self.url).hostname or self.url

    @property
    def masked_url(self) -> str:
        """The URL without what may be a secret, for other eyes than its owner's and staff's."""
        parts = urlsplit(self.url)
        return self.url if self.is_internal else f"{parts.scheme}://{parts.netloc}/…"

    def set_secret(self, secret: str) -> None:
        self.encrypted_secret = encrypt(secret)

    def secrets(self) -> list[str]:
        """The secrets that sign now, newest first: two while a rotation overlaps."""
        found = [decrypt(self.encrypted_secret)]
        if self.encrypted_previous_secret and (self.previous_secret_until or timezone.now()) > timezone.now():
            found.append(decrypt(self.encrypted_previous_secret))
        return found

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Replace the headers of its own; `webhooks.headers.merged` has checked them."""
        self.header_names = list(headers)
        self.encrypted_header_values = encrypt(json.dumps(list(headers.values()))) if headers else ""

    def headers(self) -> dict[str, str]:
        """The headers of its own, with their values; SecretUnreadable when no key fits."""
        if not self.header_names:
            return {}
        values = json.loads(decrypt(self.encrypted_header_values))
        return dict(zip(self.header_names, values, strict=True))
