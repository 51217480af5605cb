"""The log grows old: deliveries with their attempts, notifications, events, recoveries, endpoints that were deleted.

Deliveries go first, then notifications without any, then events without either. So nothing that is still to be sent
loses what it is made from.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from comments.models import Comment
from knowledge.models import Article
from notifications.models import (
    DeliveryState,
    Event,
    EventStream,
    Notification,
    ReceivedWebhook,
    RecoveryState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookRecovery,
)
from notifications.retention.batches import delete_rows, drain, pause, windows
from notifications.retention.horizon import Horizon
from tickets.models import Attachment, Ticket

# Deliveries that nothing more is to be done for.
DONE = (DeliveryState.DELIVERED, DeliveryState.EXHAUSTED, DeliveryState.CANCELLED, DeliveryState.LOOPED)

# Where the entities of events are. People are never removed, and an endpoint's own events need no present scope:
# they are for its owner, always.
ENTITIES = {"ticket": Ticket, "comment": Comment, "attachment": Attachment, "kb_article": Article}


def prune(horizon: Horizon) -> dict[str, int]:
    """Remove what lies before the horizon; returns how many rows of what."""
    removed = dict.fromkeys(("deliveries", "notifications", "events", "recoveries", "endpoints"), 0)
    if horizon.deliveries:
        for window in windows(WebhookDelivery, horizon.deliveries):
            removed["deliveries"] += remove_deliveries(WebhookDelivery.objects.filter(window))
    if horizon.events:
        for window in windows(Notification, horizon.events):
            removed["notifications"] += remove_notifications(Notification.objects.filter(window))
        for window in windows(Event, horizon.events):
            # What stood for the sake of others goes in the next round.
            while count := remove_events(Event.objects.filter(window)):
                removed["events"] += count
    removed["recoveries"] = drain(_old_recoveries(horizon), lambda ids: _remove(WebhookRecovery, ids))
    removed["endpoints"] = drain(_old_endpoints(horizon), _remove_endpoints)
    return removed


def planned(horizon: Horizon) -> dict[str, int]:
    """What `prune` would remove."""
    counts = dict.fromkeys(("deliveries", "notifications", "events"), 0)
    if horizon.deliveries:
        deliveries = WebhookDelivery.objects.filter(pk__lt=horizon.deliveries, state__in=DONE)
        counts["deliveries"] = deliveries.count()
    if horizon.events:
        undone = WebhookDelivery.objects.filter(notification=OuterRef("pk")).exclude(state__in=DONE)
        told = Notification.objects.filter(~Exists(undone), pk__lt=horizon.events)
        staying = Notification.objects.filter(event=OuterRef("pk")).filter(Q(pk__gte=horizon.events) | Exists(undone))
        counts["notifications"] = told.count()
        counts["events"] = _not_needed(Event.objects.filter(~Exists(staying), pk__lt=horizon.events)).count()
    return counts | {"recoveries": _old_recoveries(horizon).count(), "endpoints": _old_endpoints(horizon).count()}


# --- Deliveries, notifications, events ----------------------------------------------------------------------------


def remove_deliveries(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Remove those that are done, with their attempts. One transaction of three statements."""
    with transaction.atomic():
        # Locked: whoever sends one of them again comes before this, and then it is not done, or after it.
        done = deliveries.filter(state__in=DONE).select_for_update(skip_locked=True)
        ids = list(done.order_by("pk").values_list("pk", flat=True))
        if not ids:
            return 0
        delete_rows(WebhookAttempt.objects.filter(delivery_id__in=ids))
        count = delete_rows(WebhookDelivery.objects.filter(pk__in=ids))
    pause()
    return count


def remove_notifications(notifications: QuerySet[Notification]) -> int:
    """Remove those of published events that no delivery is made from any more."""
    deliveries = WebhookDelivery.objects.filter(notification=OuterRef("pk"))
    going = notifications.filter(~Exists(deliveries), event__position__lte=_sent_position())
    found = list(going.order_by().values_list("pk", "event__position"))
    if not found:
        return 0
    announce_gap([position for _, position in found])
    count = delete_rows(Notification.objects.filter(pk__in=[pk for pk, _ in found]))
    pause()
    return count


def remove_events(events: QuerySet[Event]) -> int:
    """Remove those that nobody needs any more, with the ids of the webhooks they passed on."""
    going = _not_needed(events).filter(~Exists(Notification.objects.filter(event=OuterRef("pk"))))
    found = list(going.order_by().values_list("pk", "position"))
    if not found:
        return 0
    announce_gap([position for _, position in found])
    ids = [pk for pk, _ in found]
    with transaction.atomic():
        delete_rows(ReceivedWebhook.objects.filter(event__in=ids))
        count = delete_rows(Event.objects.filter(pk__in=ids))
    pause()
    return count


def _not_needed(events: QuerySet[Event]) -> QuerySet[Event]:
    """Events that were sent, that no announcement refers to, and that say nothing of the present."""
    of_entity = Event.objects.filter(entity_id=OuterRef("entity_id"))
    newer = of_entity.filter(pk__gt=OuterRef("pk")).exclude(action="announced")
    # Where the entity is gone, its last event stands until the last of what speaks of it goes.
    others = of_entity.exclude(pk=OuterRef("pk"))
    of_ticket = Event.objects.filter(ticket_id=OuterRef("entity_id")).exclude(pk=OuterRef("pk"))
    gone = Q()
    for entity, model in ENTITIES.items():
        gone |= Q(~Exists(model._base_manager.filter(pk=OuterRef("entity_id"))), entity=entity)
    return events.filter(
        Q(entity="webhook") | Q(action="announced") | Exists(newer) | (gone & ~Exists(others) & ~Exists(of_ticket)),
        ~Exists(Event.objects.filter(origin=OuterRef("pk"))),
        position__lte=_sent_position(),
        expansion_pending=False,
    )


def _sent_position() -> int:
    return EventStream.objects.values_list("sent_position", flat=True).get(pk=1)


def announce_gap(positions: Iterable[int | None]) -> None:
    """Say that the log is not whole any more up to here: before it is true, so that nobody reads over a gap.

    A statement of its own, since the publisher waits for this row.
    """
    highest = max(position for position in positions if position is not None)
    EventStream.objects.filter(pk=1, pruned_position__lt=highest).update(pruned_position=highest)


# --- Recoveries and endpoints -------------------------------------------------------------------------------------


def _old_recoveries(horizon: Horizon) -> QuerySet[WebhookRecovery]:
    if horizon.webhooks is None:
        return WebhookRecovery.objects.none()
    return WebhookRecovery.objects.filter(finished_at__lt=horizon.webhooks).exclude(state=RecoveryState.RUNNING)


def _old_endpoints(horizon: Horizon) -> QuerySet[WebhookEndpoint]:
    """Deleted ones, with the secrets they had, when nothing that was sent there is left."""
    if horizon.webhooks is None:
        return WebhookEndpoint.objects.none()
    deliveries = WebhookDelivery.objects.filter(endpoint=OuterRef("pk"))
    running = WebhookRecovery.objects.filter(endpoint=OuterRef("pk"), state=RecoveryState.RUNNING)
    return WebhookEndpoint.objects.filter(~Exists(deliveries), ~Exists(running), deleted_at__lt=horizon.webhooks)


def _remove_endpoints(ids: list[UUID]) -> int:
    with transaction.atomic():
        delete_rows(WebhookRecovery.objects.filter(endpoint__in=ids))
        return _remove(WebhookEndpoint, ids)


def _remove(model: type[Model], ids: list[UUID]) -> int:
    count = delete_rows(model._base_manager.filter(pk__in=ids))
    pause()
    return count
