from typing import Self

from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import Role, User
from helpdesk.changes.identifiers import uuid7
from notifications.models.endpoint import WebhookEndpoint
from notifications.models.event import Event
from notifications.models.notification import Notification


class DeliveryState(models.TextChoices):
    PENDING = "pending", "Pending"
    SENDING = "sending", "Sending"
    RETRYING = "retrying", "Waiting for the next attempt"
    DELIVERED = "delivered", "Delivered"
    EXHAUSTED = "exhausted", "Given up"
    HELD = "held", "Held"  # endpoint paused, disabled, failing or far behind: uses up no attempt
    CANCELLED = "cancelled", "Cancelled"  # endpoint deleted, or its owner may no longer see the subject
    LOOPED = "looped", "Stopped: a circle"  # its own change would come back to it


class Priority(models.IntegerChoices):
    """Lower goes first."""

    NEWS = 0  # what concerns one person
    ANNOUNCEMENT = 1  # to many
    REDELIVERY = 2  # what was missed


# What may still be sent, now or some day.
UNDONE_STATES = ("pending", "sending", "retrying", "held")


class WebhookDeliveryQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        if not user.is_active:
            return self.none()
        return self if user.role == Role.ADMIN else self.filter(endpoint__owner=user)


class WebhookDelivery(models.Model):
    """One notification for one endpoint, until it has arrived. This table is the queue."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own, here and for attempts: others below begin with it, and each one costs every change of state.
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    # The event's, where it is about a ticket: what an ordered endpoint gets one after the other.
    ticket_id = models.UUIDField(null=True, blank=True, editable=False)
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    state_reason = models.CharField(max_length=300, blank=True)
    priority = models.PositiveSmallIntegerField(
        default=Priority.NEWS,
        help_text="Lower goes first: 0 for what concerns one person, 1 for an announcement to many, 2 for what is "
        "sent again: news comes before what was missed.",
    )
    attempt_count = models.PositiveIntegerField(default=0)
    # Null where nothing is to be done any more, so that the queue's index holds only what is waiting.
    next_attempt_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    delivered_at = models.DateTimeField(null=True, blank=True)
    by_hand = models.BooleanField(
        default=False, db_default=False, help_text="Redelivered: sent even if that goes round in a circle."
    )

    objects = models.Manager.from_queryset(WebhookDeliveryQuerySet)()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "notification"], name="delivery_once_per_endpoint"),
        ]
        indexes = [
            models.Index(
                fields=["priority", "next_attempt_at"],
                condition=models.Q(state__in=["pending", "retrying"]),
                name="delivery_due",
            ),
            models.Index(fields=["lease_until"], condition=models.Q(state="sending"), name="delivery_leased"),
            models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_endpoint"),
            models.Index(
                fields=["endpoint", "ticket_id"],
                condition=models.Q(state__in=list(UNDONE_STATES)),
                name="delivery_undone",
            ),
            models.Index(fields=["endpoint", "priority", "id"], condition=models.Q(state="held"), name="delivery_held"),
            # What has not arrived, for the numbers of the front page and of /metrics: few rows beside the delivered.
            models.Index(
                fields=["state", "-id"],
                condition=models.Q(state__in=["retrying", "exhausted", "held", "looped"]),
                name="delivery_not_arrived",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} ({self.state})"

    @property
    def message_id(self) -> str:
        """The `webhook-id` header: the same on every retry and every redelivery."""
        return f"msg_{self.id.hex}"


class WebhookAttempt(models.Model):
    """One try to deliver: what was sent where, what came back and how long each part took."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    succeeded = models.BooleanField()
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    diagnosis = models.CharField(max_length=300, blank=True, help_text="What went wrong, in plain words.")
    address = models.CharField(max_length=60, blank=True, help_text="The address reached.")
    dns_ms = models.FloatField(null=True, blank=True)
    connect_ms = models.FloatField(null=True, blank=True)
    tls_ms = models.FloatField(null=True, blank=True)
    first_byte_ms = models.FloatField(null=True, blank=True)
    total_ms = models.FloatField(null=True, blank=True)
    response_head = models.TextField(blank=True)
    response_body = models.TextField(blank=True, help_text="The first 16 KiB.")

    class Meta:
        ordering = ["number", "started_at"]
        indexes = [models.Index(fields=["delivery", "number"], name="attempt_delivery")]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class ReceivedWebhook(models.Model):
    """A webhook the internal receiver has taken: a second one with the same id is ignored."""

    message_id = models.CharField(max_length=100, primary_key=True)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="+")
    received_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.message_id
