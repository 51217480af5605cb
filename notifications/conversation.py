"""What hangs on a ticket shares its fate: comments and attachments are told of when it is moved or deleted.

Whoever follows comments alone must learn that some have gone with a ticket that another requester has now, or that was
deleted; and whoever has got a ticket is told what was said before. Nobody is notified of them: one thing has happened,
and it happened to the ticket. Those who saw them before and see them now are told nothing.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from uuid import UUID

from django.db.models import QuerySet

from comments import signals as comments
from comments.models import Comment
from notifications.catalogue import BY_SIGNAL, Change, Row
from tickets import signals as tickets
from tickets.models import Attachment, Ticket

# The action of an event that only changes whom a thing is for.
MOVED = "moved"

_DELETED = tuple(replace(BY_SIGNAL[it], rules=()) for it in (comments.comment_deleted, tickets.attachment_deleted))
_MOVED = tuple(
    replace(BY_SIGNAL[it], action=MOVED, rules=()) for it in (comments.comment_updated, tickets.attachment_updated)
)


def following(change: Change, without: Collection[UUID]) -> Iterator[tuple[Change, Row]]:
    """What a change of a ticket means for what hangs on it: further changes, and how each is told. Two queries or none.

    `without`: comments and attachments that are told of by themselves.
    """
    if change.signal is tickets.ticket_deleted:
        for row, instance in _hanging_on(change.instance, _DELETED, without):
            instance.deleted_at = change.instance.deleted_at
            yield Change(row.signal, instance, row.action, {}, change.actor), row
    elif change.signal is tickets.ticket_updated and "requester_id" in change.changes:
        moved = {"requester_id": change.changes["requester_id"]}
        for row, instance in _hanging_on(change.instance, _MOVED, without):
            if not instance.is_internal:  # which is no requester's
                yield Change(row.signal, instance, row.action, moved, change.actor), row


def _hanging_on(
    ticket: Ticket, rows: tuple[Row, ...], without: Collection[UUID]
) -> Iterator[tuple[Row, Comment | Attachment]]:
    found: tuple[QuerySet[Comment] | QuerySet[Attachment], ...] = (
        Comment.objects.filter(ticket=ticket, deleted_at=None).select_related("author"),
        Attachment.objects.filter(ticket=ticket, deleted_at=None).select_related("uploaded_by"),
    )
    for row, instances in zip(rows, found, strict=True):
        for instance in instances:
            if instance.pk not in without:
                instance.ticket = ticket
                yield row, instance
