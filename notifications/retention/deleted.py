"""What people deleted is removed for good: tickets, comments, attachments with their files, articles.

Their events and notifications go along, however young: what is gone for good must not live on in the log. What is
still to be sent keeps what it is made from; a later run takes that.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from django.core.files.storage import Storage
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from comments.models import Comment
from knowledge.models import Article
from notifications.models import UNDONE_STATES, Event, Notification, WebhookDelivery
from notifications.payloads import encode
from notifications.retention.batches import delete_rows, drain, pause
from notifications.retention.horizon import Horizon
from notifications.retention.log import ENTITIES, announce_gap, remove_deliveries, remove_events, remove_notifications
from tickets.models import Attachment, Ticket, TicketTag

logger = logging.getLogger(__name__)

# Entities a transaction removes.
BATCH = 100
_OF_THE_LOG = ("deliveries", "notifications", "events")


def prune(horizon: Horizon) -> dict[str, int]:
    """Remove what was deleted before the horizon; returns how many rows of what."""
    removed = dict.fromkeys(("attachments", "comments", "tickets", "articles", *_OF_THE_LOG), 0)
    if horizon.deleted is None:
        return removed
    remove = {
        "attachments": _remove_attachments,
        "comments": _remove_comments,
        "tickets": _remove_tickets,
        "articles": _remove_rows(Article),
    }
    for name, rows in _going(horizon.deleted):
        for ids in _latest_first(rows):
            gone = remove[name](ids)
            removed[name] += len(gone)
            _forget(gone, removed)
    _empty(horizon.deleted, removed)
    _forget_left(removed)
    return removed


def planned(horizon: Horizon) -> dict[str, int]:
    """What `prune` would remove, besides the events and notifications that go along."""
    if horizon.deleted is None:
        return {}
    counts = dict.fromkeys(("attachments", "comments", "tickets", "articles"), 0)
    # What was deleted by itself and what goes with its ticket overlap.
    going: dict[str, Q] = {}
    for name, rows in _going(horizon.deleted):
        going[name] = going.get(name, Q()) | Q(pk__in=rows.values("pk"))
    for name, model in (("attachments", Attachment), ("comments", Comment), ("articles", Article)):
        counts[name] = model._base_manager.filter(going[name]).count()
    # Their comments and attachments go before them.
    counts["tickets"] = Ticket._base_manager.filter(deleted_at__lt=horizon.deleted).count()
    return counts


def _going(before: datetime) -> list[tuple[str, QuerySet]]:
    """What is to be removed, in this order: files and comments before their tickets."""
    deleted = {"deleted_at__lt": before}
    of_deleted = {"ticket__in": Ticket._base_manager.filter(**deleted)}
    # What is answered by somebody who is still there stays.
    alone = Comment._base_manager.filter(~Exists(Comment._base_manager.filter(parent=OuterRef("pk"))))
    empty = Ticket._base_manager.filter(
        ~Exists(Comment._base_manager.filter(ticket=OuterRef("pk"))),
        ~Exists(Attachment._base_manager.filter(ticket=OuterRef("pk"))),
    )
    return [
        ("attachments", Attachment._base_manager.filter(**deleted)),
        ("attachments", Attachment._base_manager.filter(**of_deleted)),
        ("comments", alone.filter(**deleted)),
        ("comments", Comment._base_manager.filter(**of_deleted)),
        ("tickets", empty.filter(**deleted)),
        ("articles", Article._base_manager.filter(**deleted)),
    ]


def _latest_first(rows: QuerySet) -> Iterator[list[UUID]]:
    """The ids of `rows` in batches. What a batch has made removable comes too, what could not be removed not again."""
    rows = rows.order_by("-pk").values_list("pk", flat=True)
    ids = list(rows[:BATCH])
    while ids:
        yield ids
        ids = list(rows.filter(pk__lt=ids[-1])[:BATCH])


def _remove_rows(model: type[Model]) -> Callable[[list[UUID]], list[UUID]]:
    def remove(ids: list[UUID]) -> list[UUID]:
        delete_rows(model._base_manager.filter(pk__in=ids))
        pause()
        return ids

    return remove


def _remove_attachments(ids: list[UUID]) -> list[UUID]:
    """The files first, then the rows: a file whose row is gone would never be found again.

    A crash in between leaves rows without files, which nobody can see, and the next run removes them: to delete a
    file that is not there is no error for a storage.
    """
    gone = []
    for attachment in Attachment._base_manager.filter(pk__in=ids):
        try:
            attachment.file.storage.delete(str(attachment.file.name))
            gone.append(attachment.pk)
        except Exception as error:  # any storage's any failure: the next run tries again
            logger.error("The file of attachment %s could not be removed (%s).", attachment.pk, type(error).__name__)
    return _remove_rows(Attachment)(gone)


def _remove_comments(ids: list[UUID]) -> list[UUID]:
    with transaction.atomic():
        # Of a ticket that goes, an answer may be in a later batch than what it answers.
        Comment.objects.filter(parent__in=ids).update_without_signals(parent=None)
        delete_rows(Comment._base_manager.filter(pk__in=ids))
    pause()
    return ids


def _remove_tickets(ids: list[UUID]) -> list[UUID]:
    storage: Storage = Attachment._meta.get_field("file").storage  # type: ignore[union-attr]
    with transaction.atomic():
        delete_rows(TicketTag.objects.filter(ticket__in=ids))
        delete_rows(Ticket._base_manager.filter(pk__in=ids))
    pause()
    for id_ in ids:
        with suppress(Exception):  # its folder, where storages have any; an empty one harms nobody
            storage.delete(str(id_))
    return ids


def _empty(before: datetime, removed: dict[str, int]) -> None:
    """A deleted comment that others answer stays, to hold the conversation together, but without its words."""
    answers = Comment._base_manager.filter(parent=OuterRef("pk"))
    # What was said in a webhook that is still to be sent is said when it is sent: a later run finds it.
    unsaid = WebhookDelivery.objects.filter(notification__event__entity_id=OuterRef("pk"), state__in=UNDONE_STATES)
    wordy = Comment.objects.filter(Exists(answers), ~Exists(unsaid), deleted_at__lt=before).exclude(content="")
    for ids in _latest_first(wordy):
        Comment.objects.filter(pk__in=ids).update_without_signals(content="")
        _forget(ids, removed)
        for event in Event.objects.filter(entity_id__in=ids, position__isnull=False):
            # The last of each, which says that it is deleted.
            announce_gap([event.position])
            event.payload_staff = _without_words(event.payload_staff)
            event.payload_customer = event.payload_customer and _without_words(event.payload_customer)
            event.save(update_fields=["payload_staff", "payload_customer"])


def _without_words(payload: str) -> str:
    return encode({**json.loads(payload), "content": ""})


def _forget_left(removed: dict[str, int]) -> None:
    """What an earlier run had to leave of entities that are gone, since it was still to be sent.

    One question for each kind, which reads the log once; nothing is locked.
    """
    for entity, model in ENTITIES.items():
        exists = model._base_manager.filter(pk=OuterRef("entity_id"))
        left = Event.objects.filter(~Exists(exists), entity=entity).order_by()
        ids = list(left.values_list("entity_id", flat=True).distinct())
        for start in range(0, len(ids), BATCH):
            _forget(ids[start : start + BATCH], removed)


def _forget(ids: list[UUID], removed: dict[str, int]) -> None:
    """Remove what the log says of entities that are gone, as far as it is not needed any more."""
    events = Event.objects.filter(Q(entity_id__in=ids) | Q(ticket_id__in=ids))
    about = list(events.values_list("pk", flat=True))
    removed["deliveries"] += drain(
        WebhookDelivery.objects.filter(notification__event__in=about),
        lambda pks: remove_deliveries(WebhookDelivery.objects.filter(pk__in=pks)),
    )
    removed["notifications"] += drain(
        Notification.objects.filter(event__in=about),
        lambda pks: remove_notifications(Notification.objects.filter(pk__in=pks)),
    )
    # The last event of each goes when nothing is left that needs it.
    while count := drain(events, lambda pks: remove_events(Event.objects.filter(pk__in=pks))):
        removed["events"] += count
