"""Large audiences, notified by the worker: in batches, by id, each batch one transaction.

A worker that dies leaves the batch it was at undone, and the next one goes on there; nobody is told twice. Each batch
is an event of its own in the stream (`announced`), so that the sockets tell people when their notification exists.
"""

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from helpdesk.accounts.models import User
from notifications.models import Event, Priority
from notifications.recording import Outbox, find_recipients
from notifications.rights import current_scopes

BATCH = 1000
# Until it is so old, an announcement that people are still told of holds up the webhooks of announcements. Some 200,000
# are told in that time; one that takes longer is behind for a reason that waiting does not cure.
PRECEDENCE = timedelta(minutes=1)


def has_precedence() -> bool:
    """Whether people are being told just now of what happened: their webhooks come when all of them know.

    Both at once would take as long in all, but everybody in the desk would hear of it late.
    """
    oldest = Event.objects.filter(expansion_pending=True).order_by("id").values_list("occurred_at", flat=True).first()
    return oldest is not None and timezone.now() - oldest < PRECEDENCE


def expand_next_batch(size: int = BATCH) -> bool:
    """Notify the next `size` people of the oldest announcement; False when none is waiting (or another has it)."""
    with transaction.atomic():
        event = Event.objects.select_for_update(skip_locked=True).filter(expansion_pending=True).order_by("id").first()
        if event is None:
            return False
        people = _next_people(event, size)
        if people:
            _tell(event, people)
            event.expanded_to = people[-1]
        event.expansion_pending = len(people) == size
        event.save(update_fields=["expanded_to", "expansion_pending"])
    return True


def _next_people(event: Event, size: int) -> list[UUID]:
    scope = current_scopes([event]).get(event.entity_id, event.scope)
    if scope != event.scope or Event.objects.filter(entity_id=event.entity_id, action="deleted").exists():
        return []  # taken back meanwhile: there is nothing to announce any more
    people = User.objects.active().exclude(pk=event.actor_id)
    if event.expanded_to:
        people = people.filter(pk__gt=event.expanded_to)
    return list(people.order_by("pk").values_list("pk", flat=True)[:size])


def _tell(event: Event, people: list[UUID]) -> None:
    now, outbox, announcement = timezone.now(), Outbox(), event.announcement or {}
    batch = Event(
        origin=event,
        occurred_at=now,
        entity=event.entity,
        action="announced",
        entity_id=event.entity_id,
        ticket_id=event.ticket_id,
        actor_id=event.actor_id,
        by_token=event.by_token,
        trace=event.trace,
        visibility=event.visibility,
        person_id=event.person_id,
        payload_staff="",
    )
    outbox.events.append(batch)
    for recipient in find_recipients(Q(pk__in=people)):
        if event.scope.admits(recipient.id, recipient.role):
            outbox.notify(
                batch,
                recipient,
                announcement["type"],
                announcement["message"],
                related_type=event.entity,
                related_id=event.entity_id,
                created_at=now,
                priority=Priority.ANNOUNCEMENT,
            )
    outbox.write()
