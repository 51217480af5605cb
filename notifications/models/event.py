"""The event log: every change that is told to anyone, in the order in which it was committed."""

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import Role, User
from helpdesk.changes.identifiers import uuid7


class Visibility(models.TextChoices):
    """Who may know of an event. Each but `person` includes administrators; `requester` includes agents too."""

    PERSON = "person", "One person"
    ADMINS = "admins", "Administrators"
    STAFF = "staff", "Agents and administrators"
    REQUESTER = "requester", "The requester, agents and administrators"
    PUBLIC = "public", "Everyone who can sign in"


@dataclass(frozen=True)
class Scope:
    """Who may see a thing at one moment. `person_id`: the requester (REQUESTER) or the one person (PERSON)."""

    visibility: str
    person_id: UUID | None = None

    def admits(self, user_id: UUID, role: str) -> bool:
        if self.visibility == Visibility.PERSON:
            return user_id == self.person_id
        if role == Role.ADMIN or self.visibility == Visibility.PUBLIC:
            return True
        if self.visibility == Visibility.ADMINS:
            return False
        if role == Role.AGENT:
            return True
        return self.visibility == Visibility.REQUESTER and user_id == self.person_id


class EventQuerySet(models.QuerySet):
    def published(self) -> Self:
        """Events that have their place in the stream, in its order."""
        return self.exclude(position=None).order_by("position")

    def visible_to(self, user: User) -> Self:
        """What this person might be told of, by the scopes stored with the event (the API checks the present too)."""
        if not user.is_active:
            return self.none()
        seen = models.Q(visibility=Visibility.PUBLIC) | models.Q(
            visibility__in=(Visibility.PERSON, Visibility.REQUESTER), person_id=user.pk
        )
        lost = models.Q(previous_visibility=Visibility.PUBLIC) | models.Q(
            previous_visibility=Visibility.REQUESTER, previous_person_id=user.pk
        )
        if user.role == Role.AGENT:
            seen |= models.Q(visibility__in=(Visibility.STAFF, Visibility.REQUESTER))
        elif user.role == Role.ADMIN:
            seen |= ~models.Q(visibility=Visibility.PERSON)
        return self.filter(seen | lost)


class Event(models.Model):
    """One change, with everything needed to tell of it later exactly as it was.

    The payloads are the entity's JSON as text, frozen when the change happened, once for staff and once for
    customers (null: never for their eyes). `position` is given after the commit (`notifications.numbering`); it is the
    only cursor there is. Ids commit out of order, positions do not.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    position = models.BigIntegerField(unique=True, null=True, editable=False)
    occurred_at = models.DateTimeField(default=timezone.now)
    entity = models.CharField(max_length=20)  # ticket, comment, attachment, user, kb_article, webhook, notification
    action = models.CharField(max_length=20)  # created, updated, deleted, moved; test, received, announced, read
    entity_id = models.UUIDField()
    ticket_id = models.UUIDField(null=True, blank=True)
    actor = models.ForeignKey(
        "accounts.User",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_constraint=False,
    )
    changes = models.JSONField(default=dict, blank=True)
    # Both are what recognises webhooks that go round in a circle (`notifications.webhooks.loops`).
    by_token = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Changed with an access token: by a program, perhaps.",
    )
    trace = models.JSONField(null=True, blank=True, help_text="The webhook-ids that led to this; null when none did.")

    visibility = models.CharField(max_length=10, choices=Visibility.choices)
    person_id = models.UUIDField(null=True, blank=True)
    # Where the change moved the thing from one audience to another: who saw it before. Empty: the same as now.
    previous_visibility = models.CharField(max_length=10, choices=Visibility.choices, blank=True)
    previous_person_id = models.UUIDField(null=True, blank=True)

    payload_staff = models.TextField()
    payload_customer = models.TextField(null=True, blank=True)

    # A large audience is notified by the worker, batch by batch; each batch is an event of its own in the stream
    # that points back here.
    origin = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="batches")
    announcement = models.JSONField(
        null=True, blank=True, help_text="What the large audience is told: the notification's type and message."
    )
    expansion_pending = models.BooleanField(default=False)
    expanded_to = models.UUIDField(null=True, blank=True, help_text="The last person that was looked at.")

    objects = models.Manager.from_queryset(EventQuerySet)()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(position=None), name="event_unpublished"),
            models.Index(fields=["id"], condition=models.Q(expansion_pending=True), name="event_expanding"),
            models.Index(fields=["ticket_id", "-id"], name="event_ticket"),
            models.Index(fields=["entity_id", "-id"], name="event_entity"),
        ]

    def __str__(self) -> str:
        return f"{self.entity} {self.action}"

    @property
    def scope(self) -> Scope:
        return Scope(self.visibility, self.person_id)

    @property
    def previous_scope(self) -> Scope:
        if not self.previous_visibility:
            return self.scope
        return Scope(self.previous_visibility, self.previous_person_id)

    def payload_for(self, role: str) -> str | None:
        """The entity's JSON text as a person of this role gets it, or None when it is not for their eyes."""
        return self.payload_customer if role == Role.CUSTOMER else self.payload_staff


class EventStream(models.Model):
    """The one row that knows how far the stream has come. Whoever gives events their positions has it locked."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    last_position = models.BigIntegerField(default=0, help_text="The last position given to an event.")
    sent_position = models.BigIntegerField(default=0, help_text="The last position sent to the groups.")
    pruned_position = models.BigIntegerField(
        default=0, help_text="The last position of which something was removed: the log is whole after it."
    )

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="only_one_event_stream")]

    def __str__(self) -> str:
        return f"at {self.last_position}"
