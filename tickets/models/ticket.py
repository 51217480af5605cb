from collections.abc import Iterable
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.changes.models import EmittingQuerySet, SoftDeleteModel
from helpdesk.changes.text import BoundedTextField, validate_line
from helpdesk.changes.unit import unit
from tickets import signals
from tickets.numbers import next_ticket_number

MAX_TAGS = 20


class Status(models.TextChoices):
    NEW = "new", "New"
    OPEN = "open", "Open"
    PENDING = "pending", "Pending"  # waiting for the requester
    ON_HOLD = "on_hold", "On hold"
    SOLVED = "solved", "Solved"
    CLOSED = "closed", "Closed"


OPEN_STATUSES = (Status.NEW, Status.OPEN, Status.PENDING, Status.ON_HOLD)


class Priority(models.TextChoices):
    LOW = "low", "Low"
    NORMAL = "normal", "Normal"
    HIGH = "high", "High"
    URGENT = "urgent", "Urgent"


class TicketQuerySet(EmittingQuerySet):
    def visible_to(self, user: User) -> Self:
        """Agents and administrators see every ticket, customers the ones they requested; nobody a deleted one."""
        tickets = self.filter(deleted_at=None)
        if not user.is_active:
            return tickets.none()
        return tickets if user.is_agent_or_admin else tickets.filter(requester=user)

    def with_people(self) -> Self:
        return self.select_related("requester", "assignee").prefetch_related("ticket_tags")


class Ticket(SoftDeleteModel):
    watched = ("title", "description", "status", "priority", "requester_id", "assignee_id")
    emits = {
        "created": signals.ticket_created,
        "updated": signals.ticket_updated,
        "deleted": signals.ticket_deleted,
    }

    number = models.BigIntegerField(unique=True, editable=False)
    title = models.CharField(max_length=200, validators=[validate_line])
    description = BoundedTextField(blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.NEW)
    priority = models.CharField(max_length=10, choices=Priority.choices, default=Priority.NORMAL)
    # The order of `Priority`, which the alphabet does not know; kept by the database, so that an index can order by it.
    priority_rank = models.GeneratedField(
        expression=models.Case(
            *(models.When(priority=priority, then=models.Value(rank)) for rank, priority in enumerate(Priority.values)),
            output_field=models.SmallIntegerField(),
        ),
        output_field=models.SmallIntegerField(),
        db_persist=True,
    )
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="requested_tickets")
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="assigned_tickets",
        null=True,
        blank=True,
    )
    source = models.CharField(
        max_length=50,
        blank=True,
        help_text="Where an imported ticket came from; empty for tickets opened here.",
    )
    external_id = models.CharField(max_length=100, blank=True, help_text="The ticket's id at its source.")

    objects = models.Manager.from_queryset(TicketQuerySet)()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "external_id"],
                condition=~models.Q(external_id=""),
                name="ticket_once_per_source",
            ),
        ]
        indexes = [
            # One per order or filter of the list, newest first, so that a page costs the same at any size.
            models.Index(fields=["-created_at", "-id"], condition=models.Q(deleted_at=None), name="ticket_created"),
            models.Index(fields=["-updated_at", "-id"], condition=models.Q(deleted_at=None), name="ticket_updated"),
            models.Index(
                fields=["requester", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="ticket_requester",
            ),
            models.Index(
                fields=["assignee", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="ticket_assignee",
            ),
            models.Index(
                fields=["status", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="ticket_status",
            ),
            models.Index(
                fields=["priority", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="ticket_priority",
            ),
            models.Index(fields=["-priority_rank", "-id"], condition=models.Q(deleted_at=None), name="ticket_rank"),
            models.Index(fields=["deleted_at"], condition=~models.Q(deleted_at=None), name="ticket_deleted"),
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.title}"

    def clean(self) -> None:
        super().clean()
        if self.assignee is not None and not self.assignee.is_agent_or_admin:
            raise ValidationError({"assignee": "Only an agent or an administrator can be assigned."})

    def save(self, *args: Any, **kwargs: Any) -> None:
        with unit():
            if self.number is None:
                self.number = next_ticket_number()
            if self._state.adding:
                self._prefetched_tags([])
            super().save(*args, **kwargs)

    @property
    def tags(self) -> list[str]:
        """The names of the ticket's tags, in alphabetical order."""
        return sorted(tag.name for tag in self.ticket_tags.all())

    def set_tags(self, names: Iterable[str]) -> None:
        """Make `names` the ticket's tags: the one way to change them, and news when they differ.

        Raises ValidationError for more than 20 tags, or a name that is empty, longer than 50 or has control
        characters.
        """
        wanted = TicketTag.normalized(names)
        with unit():
            before = self.tags
            if wanted == before:
                return
            gone, new = set(before) - set(wanted), sorted(set(wanted) - set(before))
            if gone:
                TicketTag.objects.filter(ticket=self, name__in=gone).delete()
            if new:
                # Two who add the same tag at once both get what they asked for.
                TicketTag.objects.bulk_create(
                    [TicketTag(ticket=self, name=name) for name in new], ignore_conflicts=True
                )
            self._prefetched_tags(wanted)
            self.updated_at = timezone.now()
            type(self)._base_manager.filter(pk=self.pk).update(updated_at=self.updated_at)
            self.emit("updated", {"tags": [before, wanted]})

    def _prefetched_tags(self, names: list[str]) -> None:
        tags = TicketTag.objects.none()
        tags._result_cache = [TicketTag(ticket_id=self.pk, name=name) for name in names]
        self.__dict__.setdefault("_prefetched_objects_cache", {})["ticket_tags"] = tags


class TicketTag(models.Model):
    """A tag of one ticket. The name is the tag: there is nothing else to know of it, so it has no table of its own."""

    ticket = models.ForeignKey(Ticket, on_delete=models.CASCADE, related_name="ticket_tags")
    name = models.CharField(max_length=50)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["ticket", "name"], name="tag_once_per_ticket")]
        indexes = [models.Index(fields=["name", "ticket"], name="tag_name")]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def normalized(names: Iterable[str]) -> list[str]:
        """Lower case, trimmed, each once, in alphabetical order; ValidationError for what cannot be a tag."""
        tags = sorted({" ".join(name.split()).lower() for name in names})
        if len(tags) > MAX_TAGS:
            raise ValidationError({"tags": f"A ticket has at most {MAX_TAGS} tags."})
        for tag in tags:
            if not tag or len(tag) > 50 or not tag.isprintable():
                raise ValidationError({"tags": "A tag has 1 to 50 printable characters."})
        return tags
