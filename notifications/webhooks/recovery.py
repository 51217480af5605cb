"""Getting back what was missed: deliveries sent again, some by name or all of an endpoint since a time.

A recovery is a row that the sweep works off: every few seconds the next slice goes back into the queue, as many as the
rate allows, behind whatever is new. The slice and the cursor behind it are written in one transaction under the row's
lock, so two workers never release the same delivery and a killed one loses nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.changes.identifiers import uuid7_floor
from notifications.models import DeliveryState, EndpointState, RecoveryState, WebhookDelivery, WebhookEndpoint
from notifications.models.recovery import WebhookRecovery
from notifications.webhooks import queue

# What should have arrived and did not.
NOT_ARRIVED = (DeliveryState.EXHAUSTED, DeliveryState.HELD, DeliveryState.RETRYING)
# What can be sent again at all: the rest waits already, or is being sent.
RECOVERABLE = (*NOT_ARRIVED, DeliveryState.DELIVERED, DeliveryState.CANCELLED)

# Released at once: what is no more than this needs no rate, and of more it shows soon whether the receiver takes them.
AT_ONCE = 100
# Deliveries released in one statement.
MAX_SLICE = 1000
# A worker that comes back after a pause makes up for so much of it, and no more: two sweeps.
MAKE_UP = timedelta(seconds=10)

# Why a delivery is not sent again now, as the word that machines get and in words that follow "it is". Each holds for
# deliveries that none before it holds for.
LEFT_OUT = {
    "endpoint_deleted": "of a deleted endpoint",
    "endpoint_not_active": "of an endpoint that is paused or disabled (resume it first)",
    "being_sent": "being sent at this moment",
    "already_waiting": "waiting to be sent already",
    "cancelled": "cancelled",
    "recovery_running": "of an endpoint with a recovery that is still running",
}


class RecoveryRefused(Exception):
    """Nothing is sent again. `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Span:
    """Which deliveries a recovery is about: created in [since, until), in one of the states."""

    since: datetime
    until: datetime
    states: tuple[str, ...] = NOT_ARRIVED

    def of(self, deliveries: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        return deliveries.filter(created_at__gte=self.since, created_at__lt=self.until)


@dataclass(frozen=True)
class Estimate:
    """What a recovery would do: how many deliveries, in about how many seconds, and how many are left out and why."""

    count: int
    seconds: int
    left_out: dict[str, int]


# --- Some, by name -----------------------------------------------------------------------------------------------


def obstacle(delivery: WebhookDelivery) -> str | None:
    """Why it cannot be sent again now (a key of LEFT_OUT), or None. Its endpoint should be loaded."""
    if delivery.endpoint.deleted_at:
        return "endpoint_deleted"
    if delivery.endpoint.state != EndpointState.ACTIVE:
        return "endpoint_not_active"
    if delivery.state == DeliveryState.SENDING:
        return "being_sent"
    return "already_waiting" if delivery.state == DeliveryState.PENDING else None


def redeliver(deliveries: Collection[WebhookDelivery]) -> int:
    """Send these again, at most AT_ONCE, at once; returns how many. Whoever calls has looked at their `obstacle`."""
    if len(deliveries) > AT_ONCE:
        raise ValueError(f"at most {AT_ONCE} deliveries are sent again at once")
    chosen = WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in deliveries])
    return queue.redeliver(chosen, by_hand=True)


# --- All since a time --------------------------------------------------------------------------------------------


def estimate(endpoint: WebhookEndpoint, span: Span, per_minute: int) -> Estimate:
    """One query. Nothing is written."""
    counts = _counts(span.of(WebhookDelivery.objects.filter(endpoint=endpoint)))
    count = sum(counts.get(state, 0) for state in span.states)
    left_out = {
        reason: counts[state]
        for reason, state in (
            ("being_sent", DeliveryState.SENDING),
            ("already_waiting", DeliveryState.PENDING),
            ("cancelled", DeliveryState.CANCELLED),
        )
        if counts.get(state) and state not in span.states
    }
    return Estimate(count, duration(count, per_minute), left_out)


def duration(count: int, per_minute: int) -> int:
    """Seconds until the last of `count` is released; its receiver has to keep up, of course."""
    return round(max(0, count - AT_ONCE) * 60 / per_minute)


def start(
    endpoint: WebhookEndpoint, span: Span, per_minute: int | None = None, requested_by: User | None = None
) -> WebhookRecovery:
    """Begin to send again what the endpoint missed. The first are released before this returns.

    Raises RecoveryRefused for an endpoint that is deleted, paused or disabled, or has a recovery that is running.
    """
    with transaction.atomic():
        # Two who ask at once come one after the other. Deliveries for the endpoint may be written meanwhile.
        locked = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        check(locked)
        total = span.of(WebhookDelivery.objects.filter(endpoint=locked)).filter(state__in=span.states).count()
        recovery = WebhookRecovery.objects.create(
            endpoint=locked,
            requested_by=requested_by,
            since=span.since,
            until=span.until,
            states=list(span.states),
            per_minute=per_minute or settings.WEBHOOK_RECOVERY_PER_MINUTE,
            total=total,
        )
    release(recovery.pk)
    recovery.refresh_from_db()
    return recovery


def check(endpoint: WebhookEndpoint) -> None:
    """Raises RecoveryRefused unless a recovery of the endpoint can begin now."""
    if endpoint.deleted_at:
        raise RecoveryRefused("endpoint_deleted", "The endpoint was deleted.")
    if endpoint.state != EndpointState.ACTIVE:
        raise RecoveryRefused("endpoint_not_active", f"The endpoint is {endpoint.state}: resume it first.")
    running = endpoint.recoveries.filter(state=RecoveryState.RUNNING).first()
    if running is not None:
        raise RecoveryRefused(
            "recovery_running",
            f"Recovery {running.pk} of this endpoint is running: {running.released} of {running.total} are released. "
            "Wait for its end, or cancel it.",
        )


def endpoints_with(span: Span) -> list[tuple[WebhookEndpoint, int]]:
    """Every endpoint that has deliveries of the span, also one that was deleted, and how many. Two queries."""
    # Ids are made when deliveries are, so the primary key leaves out what is older.
    deliveries = span.of(WebhookDelivery.objects.filter(pk__gte=uuid7_floor(span.since)))
    counted = deliveries.filter(state__in=span.states).order_by().values_list("endpoint_id").annotate(Count("pk"))
    counts = dict(counted)
    endpoints = WebhookEndpoint.objects.filter(pk__in=counts).select_related("owner").order_by("pk")
    return [(endpoint, counts[endpoint.pk]) for endpoint in endpoints]


def cancel(recovery: WebhookRecovery, by: str) -> bool:
    """Release nothing more; False when it was over already. What has been released is sent all the same."""
    return bool(
        WebhookRecovery.objects.filter(pk=recovery.pk, state=RecoveryState.RUNNING).update(
            state=RecoveryState.CANCELLED, state_reason=f"Cancelled by {by}."[:300], finished_at=timezone.now()
        )
    )


# --- The sweep ---------------------------------------------------------------------------------------------------


def release_due() -> int:
    """Release of every running recovery what its rate allows by now; returns how many deliveries."""
    count = 0
    running = WebhookRecovery.objects.filter(state=RecoveryState.RUNNING).order_by("used_until")
    for recovery_id in running.values_list("pk", flat=True):
        while released := release(recovery_id):
            count += released
            if released < MAX_SLICE:
                break
    return count


def release(recovery_id: UUID) -> int:
    """Put the next slice back into the queue; returns how many deliveries. Four statements in one transaction.

    0 also when another worker is at it this moment.
    """
    with transaction.atomic():
        # The endpoint is locked too: pausing or deleting it comes before this slice or after it.
        recovery = (
            WebhookRecovery.objects.select_for_update(skip_locked=True, no_key=True, of=("self", "endpoint"))
            .select_related("endpoint")
            .filter(pk=recovery_id, state=RecoveryState.RUNNING)
            .first()
        )
        if recovery is None:
            return 0
        now = timezone.now()
        if recovery.endpoint.deleted_at or recovery.endpoint.state != EndpointState.ACTIVE:
            state = "deleted" if recovery.endpoint.deleted_at else recovery.endpoint.state
            recovery.finish(RecoveryState.CANCELLED, now, f"The endpoint was {state} meanwhile.")
            recovery.save(update_fields=["state", "state_reason", "finished_at"])
            return 0
        allowed, used_from = _allowed(recovery, now)
        if not allowed:
            return 0
        page = list(_ahead(recovery)[: allowed + 1])
        if len(page) <= allowed:
            recovery.finish(RecoveryState.FINISHED, now)
        page = page[:allowed]
        released = 0
        if page:
            slice_ = WebhookDelivery.objects.filter(pk__in=[pk for pk, _ in page], state__in=recovery.states)
            released = queue.redeliver(slice_, by_hand=False)
            recovery.cursor_id, recovery.cursor_created_at = page[-1]
        recovery.released += released
        recovery.used_until = used_from + timedelta(minutes=len(page) / recovery.per_minute)
        recovery.save()
    return released


def _allowed(recovery: WebhookRecovery, now: datetime) -> tuple[int, datetime]:
    """How many may be released now, and from when on the time for them counts as used."""
    if recovery.used_until is None:
        return AT_ONCE, now - timedelta(minutes=AT_ONCE / recovery.per_minute)
    one = timedelta(minutes=1 / recovery.per_minute)
    used_from = max(recovery.used_until, now - MAKE_UP - one)
    return min((now - used_from) // one, MAX_SLICE), used_from


def _ahead(recovery: WebhookRecovery) -> QuerySet:
    """What is still to be released, the oldest first, as (id, created_at)."""
    span = Span(recovery.since, recovery.until)
    deliveries = span.of(WebhookDelivery.objects.filter(endpoint_id=recovery.endpoint_id, state__in=recovery.states))
    if recovery.cursor_created_at:
        deliveries = deliveries.filter(created_at__gte=recovery.cursor_created_at).exclude(
            created_at=recovery.cursor_created_at, pk__lte=recovery.cursor_id
        )
    return deliveries.order_by("created_at", "pk").values_list("pk", "created_at")


def _counts(deliveries: QuerySet[WebhookDelivery]) -> dict[str, int]:
    return dict(deliveries.order_by().values_list("state").annotate(Count("pk")))
