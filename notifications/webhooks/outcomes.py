"""What came of attempts: recorded as sets, for a hundred at about the price of one."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Case, CharField, DateTimeField, F, Q, QuerySet, Value, When
from django.utils import timezone

from helpdesk.changes.identifiers import uuid7
from notifications.models import BreakerState, DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import breaker, endpoints, statistics
from notifications.webhooks.http import Exchange
from notifications.webhooks.queue import Claimed
from notifications.webhooks.schedule import Verdict, classify, delay_after

logger = logging.getLogger(__name__)

# How old `last_success_at` may be while an endpoint works: it is for people to read.
NEWS_AFTER = timedelta(seconds=10)


@dataclass(frozen=True)
class Result:
    claimed: Claimed
    exchange: Exchange
    started_at: datetime = field(default_factory=timezone.now)


def record(results: Iterable[Result]) -> None:
    """Write attempts and new states as sets, in one transaction. A result whose lease was lost changes no state.

    Three statements when all were delivered, two more when some were not, however many there are; and two every ten
    seconds for an endpoint that works.
    """
    results = list(results)
    try:
        _record(results)
    except (IntegrityError, DataError):
        # One was pruned, or went with its notification, while it was being sent; or the database refuses something of
        # it. The others must not wait for it.
        ids = [result.claimed.delivery.pk for result in results]
        there = set(WebhookDelivery.objects.filter(pk__in=ids).values_list("pk", flat=True))
        for result in results:
            if result.claimed.delivery.pk in there:
                _record_alone(result)


def _record_alone(result: Result) -> None:
    try:
        _record([result])
    except (IntegrityError, DataError) as error:
        # When its lease ends it is sent again.
        name = type(error).__name__
        logger.error("What became of %s was refused by the database (%s).", result.claimed.delivery.message_id, name)


def _record(results: list[Result]) -> None:
    if not results:
        return
    now = timezone.now()
    with transaction.atomic():
        _write_attempts(results)
        delivered = [result for result in results if classify(result.exchange) is Verdict.DELIVERED]
        failed = [result for result in results if classify(result.exchange) is not Verdict.DELIVERED]
        if delivered:
            _ours(delivered).update(
                state=DeliveryState.DELIVERED,
                state_reason="",
                delivered_at=now,
                attempt_count=F("attempt_count") + 1,
                next_attempt_at=None,
                lease_token=None,
                lease_until=None,
            )
        if failed:
            _record_failures(failed, now)
        _record_health(results, now)
    statistics.attempted(results, now)


def _ours(results: Iterable[Result]) -> QuerySet[WebhookDelivery]:
    """The deliveries of these results that are still leased to who sent them."""
    by_lease: dict[UUID, list[UUID]] = {}
    for result in results:
        by_lease.setdefault(result.claimed.lease, []).append(result.claimed.delivery.pk)
    ours = Q()
    for lease, ids in by_lease.items():
        ours |= Q(lease_token=lease, pk__in=ids)
    return WebhookDelivery.objects.filter(ours, state=DeliveryState.SENDING)


def _write_attempts(results: list[Result]) -> None:
    """One row for each try. On PostgreSQL by COPY, a fifth of an INSERT's price, whose values are quoted in Python."""
    rows = [_attempt(result) for result in results]
    if connection.vendor != "postgresql":
        WebhookAttempt.objects.bulk_create(WebhookAttempt(**row) for row in rows)
        return
    statement = f"COPY {WebhookAttempt._meta.db_table} ({', '.join(rows[0])}) FROM STDIN"
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(tuple(row.values()))


def _attempt(result: Result) -> dict[str, Any]:
    """The columns of a WebhookAttempt."""
    exchange, delivery = result.exchange, result.claimed.delivery
    return {
        "id": uuid7(),
        "delivery_id": delivery.pk,
        "number": delivery.attempt_count + 1,
        "started_at": result.started_at,
        "succeeded": classify(exchange) is Verdict.DELIVERED,
        "status_code": exchange.status,
        "error_code": exchange.error or "",
        "diagnosis": exchange.diagnosis,
        "address": exchange.address or "",
        "dns_ms": exchange.dns_ms,
        "connect_ms": exchange.connect_ms,
        "tls_ms": exchange.tls_ms,
        "first_byte_ms": exchange.first_byte_ms,
        "total_ms": exchange.total_ms,
        "response_head": exchange.response_head,
        "response_body": exchange.response_body,
    }


def _record_failures(results: list[Result], now: datetime) -> None:
    states, reasons, times = [], [], []
    for result in results:
        state, reason, next_attempt_at = _after_failure(result, now)
        this = Q(pk=result.claimed.delivery.pk)
        states.append(When(this, then=Value(state)))
        reasons.append(When(this, then=Value(reason[:300])))
        if next_attempt_at is not None:
            times.append(When(this, then=Value(next_attempt_at)))
    _ours(results).update(
        state=Case(*states, output_field=CharField()),
        state_reason=Case(*reasons, output_field=CharField()),
        next_attempt_at=Case(*times, default=None, output_field=DateTimeField()),
        attempt_count=F("attempt_count") + 1,
        lease_token=None,
        lease_until=None,
    )


def _after_failure(result: Result, now: datetime) -> tuple[str, str, datetime | None]:
    """State, reason and time of the next attempt."""
    exchange, number = result.exchange, result.claimed.delivery.attempt_count + 1
    if classify(exchange) is Verdict.PERMANENT:
        return DeliveryState.HELD, exchange.diagnosis, None
    delay = delay_after(number, exchange)
    if delay is None:
        return DeliveryState.EXHAUSTED, f"Given up after {number} attempts: {exchange.diagnosis}", None
    return DeliveryState.RETRYING, exchange.diagnosis, now + delay


def _record_health(results: Collection[Result], now: datetime) -> None:
    """How the endpoints are doing. The rows are locked where it is more than that they still work.

    The key is left alone: a change that writes deliveries for several endpoints refers to them in an order of its own.
    What came from another URL than the endpoint has by now says nothing of the receiver that it points to.
    """
    by_endpoint: dict[UUID, list[Result]] = {}
    for result in results:
        by_endpoint.setdefault(result.claimed.delivery.endpoint_id, []).append(result)
    failing = [
        id_ for id_, these in by_endpoint.items() if any(classify(r.exchange) is not Verdict.DELIVERED for r in these)
    ]
    changed = list(
        WebhookEndpoint.objects.select_for_update(no_key=True)
        .filter(pk__in=by_endpoint, deleted_at=None)
        .filter(Q(pk__in=failing) | Q(consecutive_failures__gt=0) | ~Q(breaker=BreakerState.CLOSED))
        .order_by("pk")
    )
    for endpoint in changed:
        for result in by_endpoint.pop(endpoint.pk):
            if result.claimed.delivery.endpoint.url != endpoint.url:
                continue
            breaker.note(endpoint, result.exchange, now)
            if reason := breaker.reason_to_disable(endpoint, result.exchange, now):
                endpoints.disable(endpoint, reason)
    if changed:
        WebhookEndpoint.objects.bulk_update(changed, breaker.FIELDS)
    since = now - NEWS_AFTER
    quiet = [
        id_
        for id_, these in by_endpoint.items()
        if not (last := these[0].claimed.delivery.endpoint.last_success_at) or last < since
    ]
    if quiet:
        # Not waiting for a row another worker has: it might be waiting for one of ours.
        free = WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=quiet)
        urls = dict(free.order_by("pk").values_list("pk", "url"))
        there = [
            id_
            for id_, url in urls.items()
            if any(result.claimed.delivery.endpoint.url == url for result in by_endpoint[id_])
        ]
        WebhookEndpoint.objects.filter(pk__in=there).update(last_success_at=now)
