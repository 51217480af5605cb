"""The breaker of an endpoint: how much it may get after what came of the last attempts.

    closed --five failures in a row--> open --time over--> half open (1, then 2, then 4 at a time) --> closed
                                         ^-------------- a failure --------------'

Failures that count are no answer, 5xx and 429: the receiver is down or overloaded. One that answers 401 or 404 is up,
and its deliveries fail by the schedule. Everything here changes the given endpoint only; the caller holds its row and
saves `FIELDS`.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from notifications.models import BreakerState, EndpointState, WebhookEndpoint
from notifications.webhooks.http import Exchange
from notifications.webhooks.schedule import JITTER, RETRY_AFTER_FACTOR, TOO_MANY_REQUESTS, Verdict, classify

OPENS_AT = 5
OPEN_SECONDS, MAX_OPEN_SECONDS = 60, 3600
# Attempts at a time, in all workers together, as it recovers; after the last step there is no limit.
RAMP = (1, 2, 4)

# An endpoint that fails for so long is disabled, counted from the first failure since the last success. One that is
# rarely used is not disabled by its first mishap.
DISABLED_AFTER = timedelta(days=5)
DISABLED_AFTER_ATTEMPTS = 10

# What `reset` changes, and what `note` does.
RESET = (
    "breaker",
    "breaker_until",
    "breaker_limit",
    "breaker_failures",
    "breaker_openings",
    "consecutive_failures",
    "failing_since",
)
FIELDS = (*RESET, "last_success_at", "last_failure", "last_failure_at")

Uniform = Callable[[float, float], float]


def is_probing(endpoint: WebhookEndpoint) -> bool:
    """Whether one attempt is to find out if it works again."""
    return endpoint.breaker == BreakerState.HALF_OPEN and endpoint.breaker_limit == RAMP[0]


def note(endpoint: WebhookEndpoint, exchange: Exchange, now: datetime, uniform: Uniform = random.uniform) -> None:
    """Take in what came of an attempt."""
    if classify(exchange) is Verdict.DELIVERED:
        endpoint.consecutive_failures, endpoint.failing_since = 0, None
        endpoint.last_success_at = now
        _it_answers(endpoint)
        return
    endpoint.consecutive_failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    endpoint.last_failure, endpoint.last_failure_at = exchange.diagnosis[:300], now
    if is_down(exchange):
        _it_is_down(endpoint, exchange, now, uniform)
    else:
        _it_answers(endpoint)


def is_down(exchange: Exchange) -> bool:
    """Whether this is a failure of the kind that opens the breaker."""
    status = exchange.status
    return exchange.error is not None or status is None or status >= 500 or status == TOO_MANY_REQUESTS


def reason_to_disable(endpoint: WebhookEndpoint, exchange: Exchange, now: datetime) -> str | None:
    """Why the endpoint gets nothing any more after this attempt, for its owner to read; None while it goes on."""
    if endpoint.state != EndpointState.ACTIVE:
        return None
    if classify(exchange) is Verdict.PERMANENT:
        return "It answered 410 Gone: it does not want webhooks any more."
    failing_for = now - endpoint.failing_since if endpoint.failing_since else timedelta()
    if failing_for >= DISABLED_AFTER and endpoint.consecutive_failures >= DISABLED_AFTER_ATTEMPTS:
        return (
            f"All of its last {endpoint.consecutive_failures} attempts failed, for {failing_for.days} days. "
            f"The last one: {endpoint.last_failure}"
        )[:300]
    return None


def half_open_due(now: datetime) -> int:
    """Let one attempt through to each endpoint whose time is over; returns how many there are.

    One statement where none is due, which is nearly always. Rows are locked in one order and none is waited for: a
    worker that writes down results has several of them.
    """
    due = Q(breaker=BreakerState.OPEN, breaker_until__lte=now)
    if not WebhookEndpoint.objects.filter(due).exists():
        return 0
    with transaction.atomic():
        free = WebhookEndpoint.objects.select_for_update(skip_locked=True, no_key=True).filter(due).order_by("pk")
        ids = list(free.values_list("pk", flat=True))
        return WebhookEndpoint.objects.filter(pk__in=ids).update(breaker=BreakerState.HALF_OPEN, breaker_limit=RAMP[0])


def reset(endpoint: WebhookEndpoint) -> None:
    """As if nothing had ever failed: the owner resumes it, or points it elsewhere."""
    _close(endpoint)
    endpoint.breaker_failures = 0
    endpoint.consecutive_failures, endpoint.failing_since = 0, None


def _close(endpoint: WebhookEndpoint) -> None:
    endpoint.breaker, endpoint.breaker_until = BreakerState.CLOSED, None
    endpoint.breaker_openings, endpoint.breaker_limit = 0, RAMP[0]


def _it_answers(endpoint: WebhookEndpoint) -> None:
    """An open breaker is passed over as well: a test that succeeds is as good as the probe."""
    endpoint.breaker_failures = 0
    if endpoint.breaker == BreakerState.CLOSED:
        return
    reached = RAMP[0] if endpoint.breaker == BreakerState.OPEN else endpoint.breaker_limit
    steps = [limit for limit in RAMP if limit > reached]
    if steps:
        endpoint.breaker, endpoint.breaker_until = BreakerState.HALF_OPEN, None
        endpoint.breaker_limit = steps[0]
    else:
        _close(endpoint)


def _it_is_down(endpoint: WebhookEndpoint, exchange: Exchange, now: datetime, uniform: Uniform) -> None:
    endpoint.breaker_failures += 1
    opens = endpoint.breaker == BreakerState.HALF_OPEN or (
        endpoint.breaker == BreakerState.CLOSED and endpoint.breaker_failures >= OPENS_AT
    )
    if not opens:
        return
    seconds = min(OPEN_SECONDS * 2 ** min(endpoint.breaker_openings, 10), MAX_OPEN_SECONDS)
    seconds *= uniform(1 - JITTER, 1 + JITTER)
    if exchange.retry_after is not None:
        seconds = min(max(seconds, exchange.retry_after), RETRY_AFTER_FACTOR * seconds)
    endpoint.breaker = BreakerState.OPEN
    endpoint.breaker_until = now + timedelta(seconds=seconds)
    endpoint.breaker_limit = RAMP[0]
    endpoint.breaker_openings += 1
