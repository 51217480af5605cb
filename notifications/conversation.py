"""What hangs on a ticket shares its fate: comments and attachments are told of when it is moved or deleted.

Whoever follows comments alone must learn that some have gone with a ticket that another requester has now, or that was
deleted; and whoever has got a ticket is told what was said before. Nobody is notified of them: one thing has happened,
and it happened to the ticket.
"""

from collections.abc import Collection, Iterator
from uuid import UUID

from django.db.models import QuerySet

from comments import signals as comments
from comments.models import Comment
from notifications.catalogue import Change
from tickets import signals as tickets
from tickets.models import Attachment, Ticket


def following(change: Change, without: Collection[UUID]) -> Iterator[Change]:
    """What a change of a ticket means for what hangs on it, as changes of it. Two queries, or none.

    `without`: comments and attachments that are told of by themselves.
    """
    if change.signal is tickets.ticket_deleted:
        for signal, found in (
            (comments.comment_deleted, _comments_of(change.instance)),
            (tickets.attachment_deleted, _attachments_of(change.instance)),
        ):
            for instance in found.exclude(pk__in=without):
                instance.ticket = change.instance
                instance.deleted_at = change.instance.deleted_at
                yield Change(signal, instance, "deleted", {}, change.actor)
    elif "requester_id" in change.changes and change.signal is tickets.ticket_updated:
        for signal, found in (
            (comments.comment_updated, _comments_of(change.instance)),
            (tickets.attachment_updated, _attachments_of(change.instance)),
        ):
            # What is internal is no requester's.
            for instance in found.exclude(pk__in=without).filter(is_internal=False):
                instance.ticket = change.instance
                moved = {"requester_id": change.changes["requester_id"]}
                yield Change(signal, instance, "updated", moved, change.actor)


def _comments_of(ticket: Ticket) -> QuerySet[Comment]:
    return Comment.objects.filter(ticket=ticket, deleted_at=None).select_related("author")


def _attachments_of(ticket: Ticket) -> QuerySet[Attachment]:
    return Attachment.objects.filter(ticket=ticket, deleted_at=None).select_related("uploaded_by")
