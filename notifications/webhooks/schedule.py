"""When a delivery is tried again, and when it is not.

Schedule, jitter, 410, 429 and Retry-After follow the recommendations of Standard Webhooks
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Delivery"): at once, then
after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, together a little over three days.
"""

import random
import re
from collections.abc import Callable
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

_MINUTE, _HOUR = 60, 3600

# Seconds before the first attempt, the second, … There are as many attempts as entries.
DELAYS = (0, 5, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR)
MAX_ATTEMPTS = len(DELAYS)

# What failed together must not come back together.
JITTER = 0.2

# A receiver that is overloaded gets at least this long, whatever the schedule says.
RELIEF_SECONDS = 60
# Honoured only so far: a receiver may not park a delivery for longer than twice its plan.
RETRY_AFTER_FACTOR = 2

GONE = 410
TOO_MANY_REQUESTS = 429
_OVERLOADED = frozenset({TOO_MANY_REQUESTS, 502, 503, 504})

_SECONDS = re.compile(r"[0-9]{1,9}")


class Outcome(Protocol):
    """What a schedule needs to know of an attempt; `http.Exchange` is one.

    `error` names what kept a whole answer from arriving; with it, `status` counts for nothing.
    """

    @property
    def status(self) -> int | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def retry_after(self) -> float | None: ...


class Verdict(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    PERMANENT = "permanent"  # not again, and the endpoint is disabled


def classify(outcome: Outcome) -> Verdict:
    """2xx is delivered, 410 is permanent, and everything else (3xx and no answer included) is tried again."""
    if outcome.error is None and outcome.status is not None:
        if 200 <= outcome.status < 300:
            return Verdict.DELIVERED
        if outcome.status == GONE:
            return Verdict.PERMANENT
    return Verdict.RETRY


def asks_for_relief(outcome: Outcome) -> bool:
    """Whether the receiver should get less for a while: 429, 502, 503, 504 or no answer in time."""
    return outcome.timed_out or outcome.status in _OVERLOADED


def delay_after(
    attempt: int, outcome: Outcome, uniform: Callable[[float, float], float] = random.uniform
) -> timedelta | None:
    """How long to wait after failed attempt number `attempt` (the first is 1); None when it was the last.

    `uniform(a, b)` gives a random number between a and b. Retry-After counts within [planned, 2 × planned]; after a 429
    or a timeout it is at least 60 s.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    planned = DELAYS[attempt] * uniform(1 - JITTER, 1 + JITTER)
    delay = planned
    if outcome.retry_after is not None:
        delay = min(max(outcome.retry_after, planned), RETRY_AFTER_FACTOR * planned)
    if outcome.timed_out or outcome.status == TOO_MANY_REQUESTS:
        delay = max(delay, RELIEF_SECONDS)
    return timedelta(seconds=delay)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from `now` (seconds since 1970) that a Retry-After header asks for; None when it says nothing sensible.

    Both forms of RFC 9110 §10.2.3: whole seconds, or an HTTP date (one in the past is 0).
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # `-0000` reads as a time without a zone; HTTP dates are always UTC.
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - now)
