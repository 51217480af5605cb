"""How an endpoint is doing, for people: what became of the newest deliveries tried, and one sentence that says it.

Bounded: of each endpoint at most LOOKED_AT deliveries of the last WINDOW are looked at for SAMPLE that were tried,
straight off the index, in the statement that loads the endpoints. Where one is down, what waits for it is newer than
what was tried.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.db.models import Case, JSONField, OuterRef, QuerySet, Subquery, When
from django.utils import timezone

from notifications.models import (
    BreakerState,
    DeliveryState,
    EndpointState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from notifications.webhooks.diagnosis import span

WINDOW = timedelta(hours=24)
SAMPLE, LOOKED_AT = 100, 1000


@dataclass(frozen=True)
class Recent:
    """Of the last 24 hours the newest deliveries that were tried, at most SAMPLE: how many arrived, how quickly.

    Milliseconds are those of whole attempts that succeeded, from the name's lookup to the end of the answer.
    """

    tried: int = 0
    delivered: int = 0
    is_sample: bool = False  # there were more
    median_ms: float | None = None
    p95_ms: float | None = None

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None where nothing was tried."""
        return round(self.delivered / self.tried, 4) if self.tried else None


class _Tried(Subquery):
    """Of the rows of a subquery the first SAMPLE that were tried, as one JSON list of lists."""

    output_field = JSONField()
    template = (
        "(SELECT %(function)s(%(row)s(recent.state, recent.ms)) FROM "
        "(SELECT newest.state, newest.ms FROM (%(subquery)s) newest "
        "WHERE newest.attempt_count > 0 AND newest.state <> 'cancelled' LIMIT %(sample)s) recent)"
    )

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return super().as_sql(compiler, connection, function="jsonb_agg", row="jsonb_build_array")

    def as_sqlite(self, compiler: Any, connection: Any) -> Any:
        return super().as_sql(compiler, connection, function="json_group_array", row="json_array")


def with_recent(endpoints: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
    """The endpoints with what `recent_of` and `sentence` need, in the same statement."""
    arrived = WebhookAttempt.objects.filter(delivery=OuterRef("pk"), succeeded=True).order_by("-number")
    newest = (
        WebhookDelivery.objects.filter(endpoint=OuterRef("pk"), created_at__gte=timezone.now() - WINDOW)
        .order_by("-created_at", "-id")
        # A delivery that was never tried has no attempt to look for.
        .annotate(ms=Case(When(attempt_count__gt=0, then=Subquery(arrived.values("total_ms")[:1]))))
        .values("state", "attempt_count", "ms")
    )
    return endpoints.annotate(recent_rows=_Tried(newest[:LOOKED_AT], sample=SAMPLE))


def recent_of(endpoint: WebhookEndpoint) -> Recent:
    """What `with_recent` found; nothing for an endpoint that was just made."""
    rows = getattr(endpoint, "recent_rows", None) or []
    times = sorted(ms for _state, ms in rows if ms is not None)
    return Recent(
        tried=len(rows),
        delivered=sum(state == DeliveryState.DELIVERED for state, _ms in rows),
        is_sample=len(rows) == SAMPLE,
        median_ms=_percentile(times, 0.5),
        p95_ms=_percentile(times, 0.95),
    )


def sentence(endpoint: WebhookEndpoint, now: datetime | None = None) -> str:
    """How the endpoint is doing, in a sentence or two of plain words."""
    now = now or timezone.now()
    if endpoint.state == EndpointState.DISABLED:
        return f"Disabled, what comes is held. {endpoint.disabled_reason}".strip()
    words = _failing(endpoint, now) if endpoint.failing_since else _working(endpoint, now)
    if endpoint.state == EndpointState.PAUSED:
        return f"Paused, what comes is held. {words}"
    return words


def _failing(endpoint: WebhookEndpoint, now: datetime) -> str:
    count = endpoint.consecutive_failures
    times = f", {count} times in a row" if count > 1 else ""
    cause = f": {endpoint.last_failure}" if endpoint.last_failure else ""
    words = f"It has failed for {span(now - (endpoint.failing_since or now))}{times}{cause}."
    breaker = breaker_words(endpoint, now)
    return f"{words} {breaker}" if breaker else words


def breaker_words(endpoint: WebhookEndpoint, now: datetime | None = None) -> str:
    """What an open breaker means; empty while it is closed."""
    now = now or timezone.now()
    if endpoint.breaker == BreakerState.OPEN:
        if endpoint.breaker_until and endpoint.breaker_until > now:
            return f"It is left alone for {span(endpoint.breaker_until - now)}, then one delivery is tried."
        return "It was left alone for a while; one delivery is tried next."
    if endpoint.breaker == BreakerState.HALF_OPEN:
        return "It is getting better: few deliveries at a time until it has kept up."
    return ""


def _working(endpoint: WebhookEndpoint, now: datetime) -> str:
    recent = recent_of(endpoint)
    if not recent.tried:
        if endpoint.last_success_at is None:
            return "Nothing was sent to it yet."
        ago = span(now - endpoint.last_success_at)
        if endpoint.last_success_at > now - WINDOW:  # and more than LOOKED_AT wait
            return f"Many deliveries are waiting to be sent; the last success was {ago} ago."
        return f"Nothing was sent in the last 24 hours; the last success was {ago} ago."
    of = "the newest " if recent.is_sample else ""
    if recent.delivered == recent.tried:
        of = f"all of {of}" if of else "all "
        found = "the delivery" if recent.tried == 1 else f"{of}{recent.tried} deliveries"
    elif not recent.delivered:
        # Nothing failed since it was healed (resumed, or given another URL), and nothing has arrived either.
        found = "The delivery" if recent.tried == 1 else f"None of {of or 'the '}{recent.tried} deliveries"
        return f"{found} of the last 24 hours has {'not ' if recent.tried == 1 else ''}arrived yet."
    else:
        found = f"{recent.delivered} of {of}{recent.tried} deliveries"
    return f"It works: {found} of the last 24 hours arrived."


def _percentile(times: list[float], share: float) -> float | None:
    """The smallest time that `share` of all do not exceed (nearest rank)."""
    return round(times[max(0, ceil(share * len(times)) - 1)], 1) if times else None
