"""The deliveries table as a queue: claiming with a lease, giving back what was lost.

Two workers never send one delivery at the same time: a claim is a conditional UPDATE, and only whoever holds the lease
may record a result. A worker that dies keeps its lease until it runs out; then the delivery is due again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from notifications import bells
from notifications.models import (
    DeliveryState,
    EndpointState,
    Event,
    Priority,
    WebhookDelivery,
    WebhookEndpoint,
)
from notifications.numbering import number_events
from notifications.rights import current_scopes, may_still_see
from notifications.webhooks import loops, statistics
from notifications.webhooks.gates import DELETED, DUE_AGAIN, DUE_STATES, Candidate, open_gates
from notifications.webhooks.lanes import Lanes

# How much longer than the total deadline of an attempt a lease lasts: time to record it, and for clocks to differ.
LEASE_MARGIN = timedelta(seconds=30)
# Candidates looked at for one claim: first a few more than are wanted, then so many, so that one endpoint's backlog
# does not hide everyone else's deliveries.
FIRST_LOOK, CANDIDATES = 50, 500
# What is held makes room for others to be seen; so many times at most a claim looks again before it takes nothing.
LOOKS = 20
# Events numbered at a time when the publisher is behind.
NUMBERED_AT_ONCE = 5000
# Of a delivery and what it tells, the columns that sending and judging it need: half of them, at half the price.
LOADED = (
    "endpoint",
    "attempt_count",
    "by_hand",
    "priority",
    *(f"notification__{name}" for name in ("type", "message", "related_type", "related_id", "created_at")),
    *(f"notification__event__{name}" for name in ("position", "occurred_at", "entity", "action", "entity_id")),
    *(f"notification__event__{name}" for name in ("ticket_id", "actor", "by_token", "trace", "origin")),
    *(f"notification__event__{name}" for name in ("visibility", "person_id", "payload_staff", "payload_customer")),
)
LOADED_ENDPOINT = (
    *("url", "state", "deleted_at", "last_success_at", "owner__role", "owner__is_active"),
    *("encrypted_secret", "encrypted_previous_secret", "previous_secret_until"),
    *("header_names", "encrypted_header_values", "rate_limit"),
)


@dataclass(frozen=True, eq=False)
class Claimed:
    """A delivery that is ours to send until its lease ends, with what LOADED and LOADED_ENDPOINT name of it."""

    delivery: WebhookDelivery
    lease: UUID
    since: float = field(default_factory=monotonic)


def lease_length() -> timedelta:
    return timedelta(seconds=settings.WEBHOOK_DEADLINE_SECONDS) + LEASE_MARGIN


@dataclass(frozen=True)
class Claim:
    """What came of a claim: deliveries to send, and whether more can be had in a moment (a rate limit has to wait)."""

    taken: list[Claimed]
    soon_more: bool = False


def claim(limit: int, lanes: Lanes, *, news_only: bool = False) -> Claim:
    """Take up to `limit` due deliveries that `lanes` has room for and their endpoints' gates let through.

    `news_only`: announcements and what is sent again stay where they are.

    Six statements where no endpoint has a gate, and one where nothing is due, in a transaction.
    """
    eligible, is_paced = Q(priority=Priority.NEWS) if news_only else Q(), False
    for _ in range(LOOKS):
        found = _take(limit, lanes, eligible)
        is_paced = is_paced or found.is_paced
        if found.needs_numbers:
            _number_all()
        if found.any or not found.look_again:
            break
        eligible &= ~found.passed_over
    return Claim(load(found.lease) if found.any else [], is_paced or found.look_again)


@dataclass(frozen=True)
class _Taken:
    """Whether there is any under this lease, and whether the next look would see what this one could not."""

    lease: UUID
    any: bool = False
    is_paced: bool = False
    needs_numbers: bool = False
    look_again: bool = False
    # What cannot be taken now, and hides what is behind it.
    passed_over: Q = field(default_factory=Q)


def _take(limit: int, lanes: Lanes, eligible: Q) -> _Taken:
    now, lease = timezone.now(), uuid4()
    with transaction.atomic():
        for window in (min(FIRST_LOOK + 2 * limit, CANDIDATES), CANDIDATES):
            room, chosen = lanes.room(), list[UUID]()
            candidates = _due(now, eligible & ~Q(endpoint_id__in=room.full()), window)
            if not candidates:
                return _Taken(lease)
            gates = open_gates(candidates, now)
            for candidate in candidates:
                if len(chosen) == limit:
                    break
                if gates.admits(candidate) and room.take(candidate.endpoint_id):
                    gates.take(candidate)
                    chosen.append(candidate.id)
                else:
                    gates.refuse(candidate)
            if len(chosen) == limit or len(candidates) < window:
                break
        held = gates.close()
        if chosen:
            WebhookDelivery.objects.filter(pk__in=chosen, state__in=DUE_STATES).update(
                state=DeliveryState.SENDING, lease_token=lease, lease_until=now + lease_length()
            )
    if gates.needs_numbers:
        return _Taken(lease, bool(chosen), gates.is_paced, needs_numbers=True, look_again=True)
    is_hidden = not chosen and len(candidates) == window
    return _Taken(
        lease,
        bool(chosen),
        gates.is_paced,
        look_again=held > 0 or is_hidden,
        passed_over=gates.passed_over() if is_hidden else Q(),
    )


def _due(now: datetime, eligible: Q, count: int) -> list[Candidate]:
    """The first `count` of the queue, locked; what another worker has locked is passed over.

    On SQLite the lock is the IMMEDIATE transaction itself; the condition of the UPDATE holds on both.
    """
    rows = (
        WebhookDelivery.objects.select_for_update(skip_locked=True)
        .filter(eligible, state__in=DUE_STATES, next_attempt_at__lte=now)
        .order_by("priority", "next_attempt_at")
        .values_list("id", "endpoint_id", "ticket_id")[:count]
    )
    return [Candidate(*row) for row in rows]


def load(lease: UUID) -> list[Claimed]:
    """What a lease holds, after setting aside what must not be sent: rights are checked now, not at the change."""
    deliveries = list(
        WebhookDelivery.objects.filter(lease_token=lease, state=DeliveryState.SENDING)
        .select_related("notification__event")
        .only(*LOADED)
        .order_by("priority", "next_attempt_at", "id")
    )
    events = [delivery.notification.event for delivery in deliveries]
    _load_endpoints(deliveries)
    _number(events)
    _load_origins(events)
    scopes = current_scopes(events)
    circles = loops.find(deliveries)
    claimed = []
    for delivery in deliveries:
        endpoint, event = delivery.endpoint, delivery.notification.event
        if endpoint.deleted_at:
            _set_aside(delivery, lease, DeliveryState.CANCELLED, DELETED)
        elif not endpoint.owner.is_active:
            _set_aside(delivery, lease, DeliveryState.CANCELLED, "The endpoint's owner was deactivated.")
        elif not may_still_see(event, endpoint.owner_id, endpoint.owner.role, scopes):
            _set_aside(delivery, lease, DeliveryState.CANCELLED, "The endpoint's owner may no longer see this.")
        elif endpoint.state != EndpointState.ACTIVE and event.action != "test":
            _set_aside(delivery, lease, DeliveryState.HELD, f"The endpoint is {endpoint.state}.")
        elif delivery.pk in circles:
            _set_aside(delivery, lease, DeliveryState.LOOPED, circles[delivery.pk])
        else:
            claimed.append(Claimed(delivery, lease))
    return claimed


def _load_endpoints(deliveries: list[WebhookDelivery]) -> None:
    """Each endpoint once with its owner, and not once for each of its deliveries."""
    ids = {delivery.endpoint_id for delivery in deliveries}
    found = WebhookEndpoint.objects.select_related("owner").only(*LOADED_ENDPOINT)
    endpoints_ = found.in_bulk(ids) if ids else {}
    for delivery in deliveries:
        delivery.endpoint = endpoints_[delivery.endpoint_id]


def _load_origins(events: list[Event]) -> None:
    """The announcements that batches belong to; a thousand deliveries share one and its payload."""
    batches = [event for event in events if event.origin_id is not None]
    if batches:
        origins = Event.objects.in_bulk({event.origin_id for event in batches})
        for event in batches:
            event.origin = origins[event.origin_id]


def _number(events: list[Event]) -> None:
    """See that each event has its position, which its webhook tells. Mostly the publisher was here before."""
    missing = {event.pk for event in events if event.position is None}
    if missing:
        _number_all()
        positions = dict(Event.objects.filter(pk__in=missing).values_list("pk", "position"))
        for event in events:
            event.position = positions.get(event.pk, event.position)


def _number_all() -> None:
    while number_events(NUMBERED_AT_ONCE):
        pass


def _set_aside(delivery: WebhookDelivery, lease: UUID, state: DeliveryState, reason: str) -> None:
    statistics.set_aside(state)
    _held_by(lease).filter(pk=delivery.pk).update(
        state=state, state_reason=reason, next_attempt_at=None, lease_token=None, lease_until=None
    )


def _held_by(lease: UUID) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(state=DeliveryState.SENDING, lease_token=lease)


def give_back_expired(*, nobody_is_sending: bool = False) -> int:
    """Make deliveries due again whose sender disappeared; returns how many. They may arrive twice, never not at all.

    `nobody_is_sending`: whoever starts the only worker knows that every lease is a dead one's, and need not wait.
    """
    now = timezone.now()
    lost = WebhookDelivery.objects.filter(state=DeliveryState.SENDING)
    if not nobody_is_sending:
        lost = lost.filter(lease_until__lt=now)
    return lost.update(
        state=DUE_AGAIN,
        state_reason="The worker that was sending it disappeared.",
        next_attempt_at=now,
        lease_token=None,
        lease_until=None,
    )


def give_back(claimed: Iterable[Claimed]) -> None:
    """Return deliveries that were claimed but not sent, when a worker stops."""
    by_lease: dict[UUID, list[UUID]] = {}
    for item in claimed:
        by_lease.setdefault(item.lease, []).append(item.delivery.pk)
    for lease, ids in by_lease.items():
        _held_by(lease).filter(pk__in=ids).update(
            state=DUE_AGAIN, next_attempt_at=timezone.now(), lease_token=None, lease_until=None
        )


def redeliver(deliveries: QuerySet[WebhookDelivery], *, by_hand: bool) -> int:
    """Send these again from the first attempt of the schedule, under the same webhook-id; returns how many.

    One statement, whose conditions hold at the moment of writing: what waits already or is being sent is left alone.
    Whoever calls looks after the endpoints (`notifications.webhooks.recovery`). `by_hand`: somebody has chosen these
    one by one, so they go out even where they would go round in a circle.
    """
    count = (
        deliveries.order_by()
        .exclude(state__in=(DeliveryState.PENDING, DeliveryState.SENDING))
        .update(
            state=DeliveryState.PENDING,
            state_reason="",
            priority=Priority.REDELIVERY,
            attempt_count=0,
            next_attempt_at=timezone.now(),
            delivered_at=None,
            by_hand=by_hand,
        )
    )
    transaction.on_commit(bells.ring_deliveries, robust=True)
    return count
