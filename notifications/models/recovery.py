from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import Role, User
from helpdesk.changes.identifiers import uuid7
from notifications.models.endpoint import WebhookEndpoint


class RecoveryState(models.TextChoices):
    RUNNING = "running", "Running"
    FINISHED = "finished", "Finished"
    CANCELLED = "cancelled", "Cancelled"


class WebhookRecoveryQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """Those of one's own endpoints; administrators manage everyone's."""
        if not user.is_active:
            return self.none()
        return self if user.role == Role.ADMIN else self.filter(endpoint__owner=user)


class WebhookRecovery(models.Model):
    """What one endpoint missed in a span of time, sent again a slice at a time.

    Everything that a worker needs to go on stands here, so one that is killed loses nothing: a slice is released in
    the transaction that moves the cursor behind it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="recoveries")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True, blank=True
    )
    since = models.DateTimeField(help_text="Deliveries created at or after this time …")
    until = models.DateTimeField(help_text="… and before this one.")
    states = models.JSONField(default=list, help_text="The states they are in.")
    per_minute = models.PositiveIntegerField(help_text="How many are released a minute.")
    total = models.PositiveIntegerField(help_text="How many there were when it was asked for.")
    released = models.PositiveIntegerField(default=0, help_text="How many have been put into the queue.")
    state = models.CharField(max_length=10, choices=RecoveryState.choices, default=RecoveryState.RUNNING)
    state_reason = models.CharField(max_length=300, blank=True)
    # The last delivery that was looked at: one that failed again is not sent a second time.
    cursor_created_at = models.DateTimeField(null=True, blank=True, editable=False)
    cursor_id = models.UUIDField(null=True, blank=True, editable=False)
    # Until when the rate has been used up; null before the first slice.
    used_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = models.Manager.from_queryset(WebhookRecoveryQuerySet)()

    class Meta:
        verbose_name_plural = "webhook recoveries"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"], condition=models.Q(state="running"), name="one_running_recovery_per_endpoint"
            ),
        ]
        indexes = [models.Index(fields=["endpoint", "-created_at", "-id"], name="recovery_endpoint")]

    def __str__(self) -> str:
        return f"{self.endpoint.url} since {self.since:%Y-%m-%d %H:%M}"

    @property
    def is_running(self) -> bool:
        return self.state == RecoveryState.RUNNING

    @property
    def remaining(self) -> int:
        """How many are still to be released, at most: some may have arrived by their own retries meanwhile."""
        return max(0, self.total - self.released) if self.is_running else 0

    @property
    def seconds_left(self) -> int:
        """About how long the rest takes to be released."""
        return round(self.remaining * 60 / self.per_minute)

    def finish(self, state: RecoveryState, now: datetime, reason: str = "") -> None:
        """Set, not saved."""
        self.state, self.state_reason, self.finished_at = state, reason[:300], now
