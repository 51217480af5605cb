"""What stands between a due delivery and its endpoint: it was stopped, its breaker is open, a rate limit, an order.

Few endpoints have a gate. A claim locks the ones it meets, so that what is counted here holds across all workers, and
passes over those that another worker has locked this moment. It never waits for such a lock while it holds deliveries:
pausing or disabling an endpoint takes both the other way round. The locks leave the key alone (`no_key`): a change that
writes deliveries for the endpoint refers to it, and must neither wait nor come into a deadlock.

What an endpoint cannot take now and not soon either is *held*: it leaves the queue, so that a hundred thousand
deliveries of one endpoint stand in nobody's way, and comes back by `release`, a part at a time. An active endpoint with
held deliveries has `holding` set, which makes finding them cheap; `repair` sets it where it is missing.

An endpoint that is paused, disabled or deleted is *stopped*: what is due of it is held or cancelled by the claim that
meets it, a window at a time. So stopping one costs its owner's request a slice at most, however much is waiting.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Value, When

from notifications.models import (
    UNDONE_STATES,
    BreakerState,
    DeliveryState,
    EndpointState,
    WebhookDelivery,
    WebhookEndpoint,
)
from notifications.webhooks import breaker, statistics

DUE_STATES = (DeliveryState.PENDING, DeliveryState.RETRYING)

FAILING = "The endpoint is failing: held until it answers again."
BEHIND = "The endpoint is behind: held until it has taken those before."
DELETED = "The endpoint was deleted."

# A rate is kept within so many seconds of it: what may be sent at once after a pause, and how often one looks.
PACE = 0.1
# More than MANY waiting for their turn at one endpoint, and all but KEPT are held. Few enough that looking past them
# costs nothing, enough that a quick endpoint does not run dry until the next release.
MANY, KEPT = 300, 200
# An ordered endpoint's held ones are released the oldest first, at least so many: the ones that are due may all be
# waiting for one of them.
OLDEST = 20
# Deliveries written in one statement when an endpoint is stopped: some hundredths of a second.
SLICE = 1000
# Endpoints looked at in one release.
RELEASED_ENDPOINTS = 50

# A delivery that is due again: whether it has been tried before is all that its state says.
DUE_AGAIN = Case(When(attempt_count=0, then=Value(DeliveryState.PENDING)), default=Value(DeliveryState.RETRYING))


@dataclass(frozen=True)
class Candidate:
    """A due delivery that a claim looks at."""

    id: UUID
    endpoint_id: UUID
    ticket_id: UUID | None


@dataclass
class Gate:
    """What one endpoint may get in this claim. `endpoint` is locked; None: somebody else has it locked."""

    endpoint: WebhookEndpoint | None
    now: datetime
    allowed: float = inf
    # The deliveries that are next of their ticket, or about none; None where order does not matter. Of a stopped
    # endpoint its tests.
    next_ones: set[UUID] | None = None
    taken: int = 0

    def admits(self, candidate: Candidate) -> bool:
        return self.taken < self.allowed and (self.next_ones is None or candidate.id in self.next_ones)

    @property
    def is_stopped(self) -> bool:
        """Paused, disabled or deleted: it gets nothing but tests."""
        return self.endpoint is not None and stopped(self.endpoint) is not None

    @property
    def holds(self) -> bool:
        """Whether what it does not admit has to wait for longer than the queue should keep it."""
        return self.endpoint is not None and (
            self.endpoint.breaker == BreakerState.OPEN or breaker.is_probing(self.endpoint)
        )

    @property
    def may_fall_behind(self) -> bool:
        """In order, what waits may be waiting for what would be held."""
        return self.endpoint is not None and self.next_ones is None

    @property
    def is_paced(self) -> bool:
        """Whether it is the rate limit that lets nothing more through: in a moment it will."""
        return (
            self.endpoint is not None
            and self.endpoint.rate_limit is not None
            and self.endpoint.breaker == BreakerState.CLOSED
            and self.taken >= self.allowed
        )

    def pace(self) -> None:
        """Allow what the rate limit has left: the generic cell rate algorithm (ITU-T I.371)."""
        if self.endpoint is None or self.endpoint.rate_limit is None:
            return
        ahead = (max(self.endpoint.paced_until or self.now, self.now) - self.now).total_seconds()
        left = int((PACE - ahead) * self.endpoint.rate_limit + 1e-6) + 1 if ahead <= PACE else 0
        self.allowed = min(self.allowed, left)

    def passed(self) -> None:
        """Note in the locked row what was taken."""
        if self.taken and self.endpoint is not None and self.endpoint.rate_limit is not None:
            start = max(self.endpoint.paced_until or self.now, self.now)
            until = start + timedelta(seconds=self.taken / self.endpoint.rate_limit)
            WebhookEndpoint.objects.filter(pk=self.endpoint.pk).update(paced_until=until)


@dataclass
class Gates:
    """The gates of one claim, by endpoint."""

    by_endpoint: dict[UUID, Gate] = field(default_factory=dict)
    # Events of an ordered endpoint have no position yet, and without one nobody can say which comes first.
    needs_numbers: bool = False
    refused: defaultdict[UUID, list[Candidate]] = field(default_factory=lambda: defaultdict(list))

    def admits(self, candidate: Candidate) -> bool:
        gate = self.by_endpoint.get(candidate.endpoint_id)
        return gate is None or gate.admits(candidate)

    def take(self, candidate: Candidate) -> None:
        if gate := self.by_endpoint.get(candidate.endpoint_id):
            gate.taken += 1

    def refuse(self, candidate: Candidate) -> None:
        self.refused[candidate.endpoint_id].append(candidate)

    @property
    def is_paced(self) -> bool:
        """Whether a rate limit kept something back that can go in a moment."""
        return any(gate.is_paced for id_, gate in self.by_endpoint.items() if self.refused.get(id_))

    def close(self) -> int:
        """Write down what was taken, and set aside what has to wait or is not to be sent; returns how many."""
        for gate in self.by_endpoint.values():
            gate.passed()
        failing, behind, count = [], [], 0
        for endpoint_id, candidates in self.refused.items():
            ids = [candidate.id for candidate in candidates]
            held_by = self.by_endpoint.get(endpoint_id)
            if held_by is not None and held_by.endpoint is not None and (stop := stopped(held_by.endpoint)):
                aside = _set_aside(held_by.endpoint, ids)
                statistics.set_aside(stop[0], aside)
                count += aside
            elif held_by is not None and held_by.holds:
                failing.append((endpoint_id, ids))
            elif len(ids) > MANY and (held_by is None or held_by.may_fall_behind):
                behind.append((endpoint_id, ids[KEPT:]))
        return count + _hold(failing, FAILING) + _hold(behind, BEHIND)

    def passed_over(self) -> Q:
        """What a look that took nothing has refused: of an ordered endpoint the tickets that wait, of others all."""
        found = Q()
        for endpoint_id, candidates in self.refused.items():
            these = Q(endpoint_id=endpoint_id)
            gate = self.by_endpoint.get(endpoint_id)
            if gate and gate.next_ones is not None and not gate.is_stopped and gate.taken < gate.allowed:
                these &= Q(ticket_id__in={candidate.ticket_id for candidate in candidates} - {None})
            found |= these
        return found


def open_gates(candidates: Iterable[Candidate], now: datetime) -> Gates:
    """The gates of the candidates' endpoints, locked until the transaction ends. One statement where there is none."""
    candidates = list(candidates)
    endpoint_ids = {candidate.endpoint_id for candidate in candidates}
    gated = set(WebhookEndpoint.objects.gated().filter(pk__in=endpoint_ids).values_list("pk", flat=True))
    gates = Gates()
    if not gated:
        return gates
    locked = (
        WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=gated).order_by("pk")
    )
    gates.by_endpoint = {id_: Gate(None, now, allowed=0) for id_ in gated}
    gates.by_endpoint |= {endpoint.pk: Gate(endpoint, now) for endpoint in locked}
    _stop_all_but_tests(gates, candidates)
    _limit_recovering(gates)
    _keep_order(gates, candidates)
    for gate in gates.by_endpoint.values():
        gate.pace()
    return gates


def _stop_all_but_tests(gates: Gates, candidates: list[Candidate]) -> None:
    halted = {id_: gate for id_, gate in gates.by_endpoint.items() if gate.is_stopped}
    if not halted:
        return
    ours = WebhookDelivery.objects.filter(pk__in=[c.id for c in candidates if c.endpoint_id in halted])
    # Whoever tries out a paused endpoint wants to see what becomes of it.
    tests = ours.filter(notification__event__action="test", endpoint__deleted_at=None)
    for gate in halted.values():
        gate.next_ones = set()
    for id_, endpoint_id in tests.values_list("pk", "endpoint_id"):
        halted[endpoint_id].next_ones.add(id_)  # type: ignore[union-attr]


def _limit_recovering(gates: Gates) -> None:
    recovering = {}
    for id_, gate in gates.by_endpoint.items():
        if gate.endpoint is None or gate.endpoint.breaker == BreakerState.CLOSED:
            continue
        gate.allowed = 0
        if gate.endpoint.breaker == BreakerState.HALF_OPEN:
            recovering[id_] = gate.endpoint.breaker_limit
    if recovering:
        out = dict(
            WebhookDelivery.objects.filter(endpoint__in=recovering, state=DeliveryState.SENDING)
            .values_list("endpoint_id")
            .annotate(Count("pk"))
            .order_by()
        )
        for id_, limit in recovering.items():
            gates.by_endpoint[id_].allowed = max(0, limit - out.get(id_, 0))


def _keep_order(gates: Gates, candidates: list[Candidate]) -> None:
    """Of each ticket only the first that is not done, by the position of its event, and none while one is out."""
    ordered = {
        id_: gate
        for id_, gate in gates.by_endpoint.items()
        if gate.endpoint and gate.endpoint.ordered and not gate.is_stopped
    }
    if not ordered:
        return
    ours = WebhookDelivery.objects.filter(pk__in=[c.id for c in candidates if c.endpoint_id in ordered])
    position = F("notification__event__position")
    of_ticket = WebhookDelivery.objects.filter(endpoint=OuterRef("endpoint"), ticket_id=OuterRef("ticket_id"))
    earlier = of_ticket.filter(state__in=UNDONE_STATES, notification__event__position__lt=OuterRef("position"))
    # One that comes after it may be out when an earlier one is sent again.
    out = of_ticket.filter(state=DeliveryState.SENDING).exclude(pk=OuterRef("pk"))
    for gate in ordered.values():
        gate.next_ones = set()
    rows = ours.annotate(position=position, waits=Exists(earlier) | Exists(out)).values_list(
        "pk", "endpoint_id", "ticket_id", "position", "waits"
    )
    for id_, endpoint_id, ticket_id, place, waits in rows:
        if ticket_id is not None and place is None:
            gates.needs_numbers = True
        elif ticket_id is None or not waits:
            ordered[endpoint_id].next_ones.add(id_)  # type: ignore[union-attr]


def _hold(found: list[tuple[UUID, list[UUID]]], reason: str) -> int:
    if not found:
        return 0
    ids = [endpoint_id for endpoint_id, _ in found]
    # Those with a gate are ours already.
    locked = set(
        WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True)
        .filter(pk__in=ids)
        .order_by("pk")
        .values_list("pk", flat=True)
    )
    WebhookEndpoint.objects.filter(pk__in=locked, holding=False).update(holding=True)
    deliveries = [id_ for endpoint_id, ids in found if endpoint_id in locked for id_ in ids]
    return WebhookDelivery.objects.filter(pk__in=deliveries, state__in=DUE_STATES).update(
        state=DeliveryState.HELD, state_reason=reason, next_attempt_at=None
    )


# --- stopped ------------------------------------------------------------------------------------------------------
def stopped(endpoint: WebhookEndpoint) -> tuple[DeliveryState, str] | None:
    """What becomes of the deliveries of an endpoint that is deleted, paused or disabled, and why; else None."""
    if endpoint.deleted_at:
        return DeliveryState.CANCELLED, DELETED
    if endpoint.state != EndpointState.ACTIVE:
        return DeliveryState.HELD, f"The endpoint is {endpoint.state}."
    return None


def clear(endpoint: WebhookEndpoint) -> int:
    """Set aside one slice of what a stopped endpoint has not got; returns how many.

    So people see at once what became of theirs. What is left of a large backlog is not sent either: a claim sets aside
    what is due, and `repair` cancels what a deleted endpoint has held. The caller has written the endpoint's row
    before, so that whoever releases comes earlier or finds it stopped.
    """
    state, _ = stopped(endpoint) or (None, "")
    waiting = DUE_STATES if state == DeliveryState.HELD else (*DUE_STATES, DeliveryState.HELD)
    rows = endpoint.deliveries.select_for_update(skip_locked=True).filter(state__in=waiting).order_by()
    return _set_aside(endpoint, list(rows.values_list("pk", flat=True)[:SLICE]))


def _set_aside(endpoint: WebhookEndpoint, ids: list[UUID]) -> int:
    state, reason = stopped(endpoint) or (None, "")
    if state is None or not ids:
        return 0
    return WebhookDelivery.objects.filter(pk__in=ids, state__in=(*DUE_STATES, DeliveryState.HELD)).update(
        state=state, state_reason=reason, next_attempt_at=None
    )


# --- coming back --------------------------------------------------------------------------------------------------
def release(now: datetime) -> int:
    """Make held deliveries due that their endpoints can take now; returns how many.

    One for an endpoint that is to be probed, and as many as the queue should hold of any other. Two statements when
    nothing is held.
    """
    breaker.half_open_due(now)
    able = WebhookEndpoint.objects.filter(holding=True, state=EndpointState.ACTIVE).exclude(breaker=BreakerState.OPEN)
    # By chance, so that none is behind the others for good.
    ids = list(able.order_by("?").values_list("pk", flat=True)[:RELEASED_ENDPOINTS])
    return sum(_release(id_, now) for id_ in ids)


def _release(endpoint_id: UUID, now: datetime) -> int:
    with transaction.atomic():
        endpoint = (
            WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(pk=endpoint_id, holding=True, state=EndpointState.ACTIVE)
            .exclude(breaker=BreakerState.OPEN)
            .first()
        )
        if endpoint is None:
            return 0
        room = _room(endpoint, now)
        if not room:
            return 0
        held = endpoint.deliveries.filter(state=DeliveryState.HELD)
        first = held.order_by("id") if endpoint.ordered else held.order_by("priority", "id")
        if breaker.is_probing(endpoint) and endpoint.ordered:
            # Where one of a ticket is waiting for its next attempt, the others wait for it: another ticket's is the
            # probe. When its time has come it is due, and held or sent like any other.
            not_due = endpoint.deliveries.filter(state__in=DUE_STATES, ticket_id__isnull=False)
            first = first.exclude(ticket_id__in=not_due.order_by().values("ticket_id"))
        ids = list(first.values_list("pk", flat=True)[: room + 1])
        released = WebhookDelivery.objects.filter(pk__in=ids[:room], state=DeliveryState.HELD).update(
            state=DUE_AGAIN, state_reason="", next_attempt_at=now
        )
        if len(ids) <= room and not held.exists():
            WebhookEndpoint.objects.filter(pk=endpoint_id).update(holding=False)
    return released


def _room(endpoint: WebhookEndpoint, now: datetime) -> int:
    """How many more of its deliveries the queue should have."""
    waiting = endpoint.deliveries.filter(state__in=DUE_STATES, next_attempt_at__lte=now)
    if breaker.is_probing(endpoint):
        # The first of an ordered endpoint by its id need not be the first by its event's position.
        wanted = OLDEST if endpoint.ordered else 1
        if endpoint.deliveries.filter(state=DeliveryState.SENDING).exists() or waiting.exists():
            return 0
        return wanted
    room = KEPT - len(waiting.values_list("pk")[:KEPT])
    return max(room, OLDEST) if endpoint.ordered else room


def repair() -> bool:
    """Find held deliveries that nobody would release or cancel; returns whether there is more to do soon.

    A change that read "paused" may commit after the endpoint was resumed or deleted, a 410 be recorded after that; a
    deleted endpoint may have had more than its owner could wait for; and a hand may have written into the table.
    """
    held = WebhookDelivery.objects.filter(endpoint=OuterRef("pk"), state=DeliveryState.HELD)
    more = False
    with transaction.atomic():
        unlocked = WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True).order_by("pk")
        forgotten = unlocked.filter(Exists(held), state=EndpointState.ACTIVE, deleted_at=None, holding=False)
        ids = list(forgotten.values_list("pk", flat=True))
        WebhookEndpoint.objects.filter(pk__in=ids).update(holding=True)
    for endpoint in WebhookEndpoint.objects.filter(Exists(held), deleted_at__isnull=False).order_by("pk"):
        with transaction.atomic():
            more = clear(endpoint) == SLICE or more
    return more
