from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.changes.identifiers import uuid7
from notifications.models.event import Event


class NotificationQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """One's own, and nobody else's: not even an administrator reads another person's."""
        return self.filter(recipient=user) if user.is_active else self.none()

    def unread(self) -> Self:
        return self.filter(read_at=None)


class Notification(models.Model):
    """What one person was told of one event."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="notifications")
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    type = models.CharField(max_length=30)
    message = models.CharField(max_length=500)
    related_type = models.CharField(max_length=20)
    related_id = models.UUIDField()
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(NotificationQuerySet)()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            # Two batches of one announcement never overlap, and a retried one adds nothing.
            models.UniqueConstraint(fields=["event", "recipient"], name="notification_once_per_event"),
        ]
        indexes = [
            models.Index(fields=["recipient", "-created_at", "-id"], name="notification_recipient"),
            models.Index(fields=["recipient"], condition=models.Q(read_at=None), name="notification_unread"),
        ]

    def __str__(self) -> str:
        return self.message
