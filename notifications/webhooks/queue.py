"""The deliveries table as a queue: claiming with a lease, recording what came of it, giving back what was lost.

Two workers never send one delivery at the same time: a claim is a conditional UPDATE, and only whoever holds the lease
may record a result. A worker that dies keeps its lease until it runs out; then the delivery is due again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from notifications import bells
from notifications.models import DeliveryState, EndpointState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.rights import current_scopes, may_still_see
from notifications.webhooks import endpoints
from notifications.webhooks.http import Exchange
from notifications.webhooks.schedule import Verdict, classify, delay_after

DUE_STATES = (DeliveryState.PENDING, DeliveryState.RETRYING)

# How much longer than the total deadline of an attempt a lease lasts: time to record it, and for clocks to differ.
LEASE_MARGIN = timedelta(seconds=30)
# Candidates looked at for one claim, so that one endpoint's backlog does not hide everyone else's deliveries.
CANDIDATES = 500


@dataclass(frozen=True)
class Claimed:
    """A delivery that is ours to send until its lease ends, with endpoint, owner, notification and event loaded."""

    delivery: WebhookDelivery
    lease: UUID
    started_at: datetime


@dataclass(frozen=True)
class Result:
    claimed: Claimed
    exchange: Exchange


def lease_length() -> timedelta:
    return timedelta(seconds=settings.WEBHOOK_DEADLINE_SECONDS) + LEASE_MARGIN


def claim(limit: int, *, in_flight: dict[UUID, int], per_endpoint: int) -> list[Claimed]:
    """Up to `limit` due deliveries, none beyond `per_endpoint` of one endpoint (`in_flight` counts what is out)."""
    now, lease = timezone.now(), uuid4()
    full = [endpoint_id for endpoint_id, count in in_flight.items() if count >= per_endpoint]
    with transaction.atomic():
        # On SQLite the lock is the IMMEDIATE transaction itself; the condition of the UPDATE holds on both.
        due = (
            WebhookDelivery.objects.select_for_update(skip_locked=True)
            .filter(state__in=DUE_STATES, next_attempt_at__lte=now)
            .exclude(endpoint_id__in=full)
            .order_by("priority", "next_attempt_at")
            .values_list("id", "endpoint_id")[:CANDIDATES]
        )
        chosen: list[UUID] = []
        taken = dict(in_flight)
        for delivery_id, endpoint_id in due:
            if len(chosen) < limit and taken.get(endpoint_id, 0) < per_endpoint:
                taken[endpoint_id] = taken.get(endpoint_id, 0) + 1
                chosen.append(delivery_id)
        if not chosen:
            return []
        WebhookDelivery.objects.filter(pk__in=chosen, state__in=DUE_STATES).update(
            state=DeliveryState.SENDING, lease_token=lease, lease_until=now + lease_length()
        )
    return load(lease)


def load(lease: UUID) -> list[Claimed]:
    """What a lease holds, after setting aside what must not be sent: rights are checked now, not at the change."""
    deliveries = list(
        WebhookDelivery.objects.filter(lease_token=lease)
        .select_related("endpoint__owner", "notification__event__origin")
        .order_by("priority", "next_attempt_at", "id")
    )
    scopes = current_scopes(delivery.notification.event for delivery in deliveries)
    claimed = []
    for delivery in deliveries:
        endpoint, event = delivery.endpoint, delivery.notification.event
        if endpoint.deleted_at:
            _set_aside(delivery, DeliveryState.CANCELLED, "The endpoint was deleted.")
        elif not endpoint.owner.is_active:
            _set_aside(delivery, DeliveryState.CANCELLED, "The endpoint's owner was deactivated.")
        elif not may_still_see(event, endpoint.owner_id, endpoint.owner.role, scopes):
            _set_aside(delivery, DeliveryState.CANCELLED, "The endpoint's owner may no longer see this.")
        elif endpoint.state != EndpointState.ACTIVE and event.action != "test":
            _set_aside(delivery, DeliveryState.HELD, f"The endpoint is {endpoint.state}.")
        else:
            claimed.append(Claimed(delivery, lease, timezone.now()))
    return claimed


def _set_aside(delivery: WebhookDelivery, state: DeliveryState, reason: str) -> None:
    _held_by(delivery.lease_token).filter(pk=delivery.pk).update(
        state=state, state_reason=reason, next_attempt_at=None, lease_token=None, lease_until=None
    )


def _held_by(lease: UUID | None) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(state=DeliveryState.SENDING, lease_token=lease)


def record(results: Iterable[Result]) -> None:
    """Write attempts and new states as sets, in one transaction. A result whose lease was lost changes no state."""
    results = list(results)
    if not results:
        return
    with transaction.atomic():
        WebhookAttempt.objects.bulk_create([attempt_of(result) for result in results])
        now = timezone.now()
        delivered: dict[UUID, list[UUID]] = {}
        for result in results:
            if classify(result.exchange) is Verdict.DELIVERED:
                delivered.setdefault(result.claimed.lease, []).append(result.claimed.delivery.pk)
            else:
                _record_failure(result, now)
        for lease, ids in delivered.items():
            _held_by(lease).filter(pk__in=ids).update(
                state=DeliveryState.DELIVERED,
                state_reason="",
                delivered_at=now,
                attempt_count=F("attempt_count") + 1,
                next_attempt_at=None,
                lease_token=None,
                lease_until=None,
            )
        _record_health(results, now)


def attempt_of(result: Result) -> WebhookAttempt:
    exchange, delivery = result.exchange, result.claimed.delivery
    return WebhookAttempt(
        delivery=delivery,
        number=delivery.attempt_count + 1,
        started_at=result.claimed.started_at,
        succeeded=classify(exchange) is Verdict.DELIVERED,
        status_code=exchange.status,
        error_code=exchange.error or "",
        diagnosis=exchange.diagnosis,
        address=exchange.address or "",
        dns_ms=exchange.dns_ms,
        connect_ms=exchange.connect_ms,
        tls_ms=exchange.tls_ms,
        first_byte_ms=exchange.first_byte_ms,
        total_ms=exchange.total_ms,
        response_head=exchange.response_head,
        response_body=exchange.response_body,
    )


def _record_failure(result: Result, now: datetime) -> None:
    delivery, exchange = result.claimed.delivery, result.exchange
    number = delivery.attempt_count + 1
    gone = classify(exchange) is Verdict.PERMANENT
    delay = None if gone else delay_after(number, exchange)
    if delay is not None:
        state, reason, next_attempt_at = DeliveryState.RETRYING, exchange.diagnosis, now + delay
    elif gone:
        state, reason, next_attempt_at = DeliveryState.HELD, exchange.diagnosis, None
    else:
        state, next_attempt_at = DeliveryState.EXHAUSTED, None
        reason = f"Given up after {number} attempts: {exchange.diagnosis}"
    _held_by(result.claimed.lease).filter(pk=delivery.pk).update(
        state=state,
        state_reason=reason[:300],
        attempt_count=F("attempt_count") + 1,
        next_attempt_at=next_attempt_at,
        lease_token=None,
        lease_until=None,
    )
    if gone:
        endpoints.disable(delivery.endpoint, "It answered 410 Gone: it does not want webhooks any more.")


def _record_health(results: Collection[Result], now: datetime) -> None:
    """How the endpoints are doing, one statement each and only where it is news."""
    last: dict[UUID, Result] = {result.claimed.delivery.endpoint_id: result for result in results}
    for endpoint_id, result in last.items():
        endpoint = result.claimed.delivery.endpoint
        health = WebhookEndpoint.objects.filter(pk=endpoint_id)
        if classify(result.exchange) is Verdict.DELIVERED:
            recently = endpoint.last_success_at and now - endpoint.last_success_at < timedelta(seconds=10)
            if endpoint.consecutive_failures or not recently:
                health.update(consecutive_failures=0, failing_since=None, last_success_at=now)
        else:
            health.update(
                consecutive_failures=F("consecutive_failures") + 1,
                failing_since=endpoint.failing_since or now,
                last_failure=result.exchange.diagnosis[:300],
            )


def give_back_expired(*, nobody_is_sending: bool = False) -> int:
    """Make deliveries due again whose sender disappeared; returns how many. They may arrive twice, never not at all.

    `nobody_is_sending`: whoever starts the only worker knows that every lease is a dead one's, and need not wait.
    """
    now = timezone.now()
    lost = WebhookDelivery.objects.filter(state=DeliveryState.SENDING)
    if not nobody_is_sending:
        lost = lost.filter(lease_until__lt=now)
    return lost.update(
        state=DeliveryState.RETRYING,
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
            state=DeliveryState.RETRYING, next_attempt_at=timezone.now(), lease_token=None, lease_until=None
        )


def redeliver(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Send these again from the first attempt of the schedule, under the same webhook-id; returns how many.

    What is being sent this moment is left alone, and so is what belongs to a deleted endpoint.
    """
    with transaction.atomic():
        ids = list(
            deliveries.exclude(state=DeliveryState.SENDING)
            .filter(endpoint__deleted_at=None)
            .values_list("pk", flat=True)
        )
        count = 0
        for start in range(0, len(ids), 500):
            count += (
                WebhookDelivery.objects.filter(pk__in=ids[start : start + 500])
                .exclude(state=DeliveryState.SENDING)
                .update(
                    state=DeliveryState.PENDING,
                    state_reason="",
                    attempt_count=0,
                    next_attempt_at=timezone.now(),
                    delivered_at=None,
                )
            )
        transaction.on_commit(bells.ring_deliveries, robust=True)
    return count
