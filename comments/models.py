from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.text import Truncator

from comments import signals
from helpdesk.accounts.models import User
from helpdesk.changes.models import EmittingQuerySet, SoftDeleteModel
from helpdesk.changes.text import BoundedTextField
from helpdesk.changes.unit import unit
from tickets.models import Status, Ticket


class TicketClosed(ValidationError):
    """A closed ticket takes no replies; whoever wants to go on opens a new one."""

    def __init__(self) -> None:
        super().__init__("This ticket is closed. Please open a new one.", code="ticket_closed")


class CommentQuerySet(EmittingQuerySet):
    def visible_to(self, user: User) -> Self:
        """Whoever sees the ticket sees its comments, internal notes only agents and administrators."""
        comments = self.filter(deleted_at=None, ticket__deleted_at=None)
        if not user.is_active:
            return comments.none()
        if user.is_agent_or_admin:
            return comments
        return comments.filter(ticket__requester=user, is_internal=False)


class Comment(SoftDeleteModel):
    """A reply in a ticket's conversation, or an internal note that customers never see."""

    watched = ("content", "is_internal")
    emits = {
        "created": signals.comment_created,
        "updated": signals.comment_updated,
        "deleted": signals.comment_deleted,
    }

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="comments")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="comments", null=True, blank=True
    )
    parent = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        related_name="replies",
        null=True,
        blank=True,
        verbose_name="reply to",
    )
    content = BoundedTextField()
    is_internal = models.BooleanField(
        "internal note", default=False, help_text="Only agents and administrators see it."
    )

    objects = models.Manager.from_queryset(CommentQuerySet)()

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["ticket", "created_at", "id"], name="comment_ticket"),
            models.Index(fields=["-created_at", "-id"], condition=models.Q(deleted_at=None), name="comment_created"),
            models.Index(fields=["deleted_at"], condition=~models.Q(deleted_at=None), name="comment_deleted"),
        ]

    def __str__(self) -> str:
        return Truncator(self.content).chars(60)

    def clean(self) -> None:
        super().clean()
        if self.parent is None:
            return
        if self.parent.ticket_id != self.ticket_id:
            raise ValidationError({"parent": "The comment replied to belongs to another ticket."})
        if self.parent.is_internal and not self.is_internal:
            raise ValidationError({"is_internal": "A reply to an internal note is internal too."})

    def post(self) -> "Comment":
        """Save a new comment as part of its ticket's conversation.

        The ticket's row is locked first: a comment and a change of requester that happen at once come one after
        the other, so that the comment is told to whoever owns the ticket then. A requester's reply reopens a
        ticket that was pending or solved; a closed one raises TicketClosed.
        """
        with unit():
            ticket = self.ticket
            locked = (
                Ticket._base_manager.select_for_update()
                .filter(pk=ticket.pk)
                .values_list("status", "requester_id", "assignee_id", "deleted_at")
                .get()
            )
            ticket.status, ticket.requester_id, ticket.assignee_id, ticket.deleted_at = locked
            ticket._remember()
            if ticket.status == Status.CLOSED or ticket.deleted_at:
                raise TicketClosed()
            self.save()
            if (
                not self.is_internal
                and self.author_id == ticket.requester_id
                and ticket.status in (Status.PENDING, Status.SOLVED)
            ):
                ticket.status = Status.OPEN
                ticket.save(update_fields=["status"])
        return self
