"""Counters for /metrics: what attempts ended in, how long they took, what became of deliveries.

Added up in memory while deliveries are recorded, and added to the table every few seconds and when a worker stops; so
any process can show what all of them did. What a killed worker had not added yet (a few seconds) is missing from the
numbers for good. That is all that is missing: deliveries and attempts are rows of their own.
"""

import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from notifications.models import DeliveryState, Statistic
from notifications.webhooks.schedule import MAX_ATTEMPTS, Verdict, classify

logger = logging.getLogger(__name__)

# What an attempt ended in. Codes of `diagnosis` and `destination` by what an operator would do about them.
DELIVERED, TIMEOUT, REFUSED, CONNECTION, TLS, DNS, BLOCKED, INTERNAL = (
    "delivered",
    "timeout",
    "refused",
    "connection",
    "tls",
    "dns",
    "blocked",
    "internal",
)
OUTCOMES = (DELIVERED, "3xx", "4xx", "5xx", "other", TIMEOUT, REFUSED, CONNECTION, TLS, DNS, BLOCKED, INTERNAL)
# What became of deliveries when a worker had them. What an owner's pausing holds, no worker sees.
ENDS = (
    DeliveryState.DELIVERED,
    DeliveryState.EXHAUSTED,
    DeliveryState.HELD,
    DeliveryState.CANCELLED,
    DeliveryState.LOOPED,
)

# Upper bounds, seconds. Attempts end with their deadline of 15 s; deliveries may take all of the schedule.
ATTEMPT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
LATENCY_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)

ATTEMPTS, ENDED, DURATION, LATENCY = "attempts", "deliveries", "attempt_duration", "delivery_latency"
HISTOGRAMS = {DURATION: ATTEMPT_BOUNDS, LATENCY: LATENCY_BOUNDS}
SUM, BEYOND = "sum", "+Inf"

_SILENCE = {"timeout", "connect_timeout", "tls_timeout", "dns_timeout"}
_OURS = {"unexpected", "not_sendable", "request_invalid"}
_NOT_ALLOWED = {"address_refused", "port_refused", "proxy_refused", "https_required"}

_adding = threading.Lock()
_flushing = threading.Lock()
_added: Counter[tuple[str, str]] = Counter()


def outcome_of(exchange: Any) -> str:
    """One of OUTCOMES."""
    error = exchange.error
    if error is None:
        status = exchange.status or 0
        if classify(exchange) is Verdict.DELIVERED:
            return DELIVERED
        return f"{status // 100}xx" if 300 <= status < 600 else "other"
    if error in _SILENCE:
        return TIMEOUT
    if error in _NOT_ALLOWED or error.startswith("url_"):
        return BLOCKED
    if error in _OURS:
        return INTERNAL
    if error == "connect_refused":
        return REFUSED
    kind = error.split("_")[0]
    return kind if kind in (TLS, DNS) else CONNECTION


def attempted(results: Iterable[Any], now: datetime) -> None:
    """Count attempts (`outcomes.Result`) that have been recorded at `now`, and the deliveries that end with them."""
    found: Counter[tuple[str, str]] = Counter()
    for result in results:
        exchange, delivery = result.exchange, result.claimed.delivery
        found[ATTEMPTS, outcome_of(exchange)] += 1
        _observe(found, DURATION, (exchange.total_ms or 0) / 1000)
        match classify(exchange):
            case Verdict.DELIVERED:
                found[ENDED, DeliveryState.DELIVERED] += 1
                _observe(found, LATENCY, (now - delivery.notification.event.occurred_at).total_seconds())
            case Verdict.PERMANENT:
                found[ENDED, DeliveryState.HELD] += 1
            case _ if delivery.attempt_count + 1 >= MAX_ATTEMPTS:
                found[ENDED, DeliveryState.EXHAUSTED] += 1
    with _adding:
        _added.update(found)


def set_aside(state: DeliveryState, count: int = 1) -> None:
    """Count deliveries that a worker met and did not send."""
    with _adding:
        _added[ENDED, state] += count


def flush() -> None:
    """Add what this process has counted to the table: one statement. What the database does not take is kept."""
    global _added
    with _flushing:
        with _adding:
            mine, _added = _added, Counter()
        if not mine:
            return
        try:
            _add(mine)
        except DatabaseError as error:
            with _adding:
                _added.update(mine)
            logger.warning("The database took no statistics (%s); they are kept.", type(error).__name__)


def _add(counts: Counter[tuple[str, str]]) -> None:
    # In one order everywhere, so that two workers never wait for each other's rows.
    rows = sorted((metric, str(label), float(value)) for (metric, label), value in counts.items())
    table = Statistic._meta.db_table
    places = ", ".join(["(%s, %s, %s)"] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (metric, label, value) VALUES {places} "  # noqa: S608 - a constant, and places
            f"ON CONFLICT (metric, label) DO UPDATE SET value = {table}.value + excluded.value",
            [field for row in rows for field in row],
        )


def totals() -> dict[str, dict[str, float]]:
    """All that was ever counted: `{metric: {label: value}}`. One query, of less than a hundred rows."""
    found: dict[str, dict[str, float]] = {metric: {} for metric in (ATTEMPTS, ENDED, *HISTOGRAMS)}
    for metric, label, value in Statistic.objects.values_list("metric", "label", "value"):
        found.setdefault(metric, {})[label] = value
    return found


def buckets(counted: dict[str, float], bounds: Iterable[float]) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: cumulated counts by upper bound, and the sum."""
    found, total = [], 0.0
    for label in [*(str(bound) for bound in bounds), BEYOND]:
        total += counted.get(label, 0)
        found.append((label, total))
    return found, counted.get(SUM, 0.0)


def _observe(found: Counter[tuple[str, str]], metric: str, seconds: float) -> None:
    bounds = HISTOGRAMS[metric]
    at = bisect_left(bounds, seconds)
    found[metric, str(bounds[at]) if at < len(bounds) else BEYOND] += 1
    found[metric, SUM] += max(0.0, seconds)  # type: ignore[assignment]  # a Counter adds floats as well
