"""Claiming and recording by hand, as a worker does it, with answers that no receiver had to give."""

from collections.abc import Iterable
from datetime import timedelta

from django.utils import timezone

from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.webhooks import outcomes, queue
from notifications.webhooks.http import Exchange
from notifications.webhooks.lanes import Lanes
from notifications.webhooks.outcomes import Result
from notifications.webhooks.queue import Claimed

OK = Exchange(status=200, diagnosis="answered 200 OK", total_ms=3.0)
DOWN = Exchange(error="connection_refused", diagnosis="refused the connection", total_ms=1.0)
GONE = Exchange(status=410, diagnosis="answered 410 Gone", total_ms=1.0)


def answered(status: int, **more) -> Exchange:
    return Exchange(status=status, diagnosis=f"answered {status}", total_ms=1.0, **more)


def claim(limit: int = 10, lanes: Lanes | None = None) -> list[Claimed]:
    return queue.claim(limit, roomy() if lanes is None else lanes).taken


def roomy(per_endpoint: int = 8) -> Lanes:
    """Lanes with room for everything, of a process that knows every endpoint to be quick."""
    lanes = Lanes(fast=100, slow=100, per_endpoint=per_endpoint)
    for endpoint_id in WebhookEndpoint.objects.values_list("pk", flat=True):
        lanes.reserve(endpoint_id, endpoint_id)
        lanes.start(endpoint_id)
        lanes.end(endpoint_id, 0.01, answered=True)
    return lanes


def record(claimed: Iterable[Claimed], exchange: Exchange) -> None:
    outcomes.record([Result(item, exchange) for item in claimed])


def make_due() -> None:
    """As if the schedule's time had come."""
    WebhookDelivery.objects.filter(state="retrying").update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def states() -> list[str]:
    return sorted(WebhookDelivery.objects.values_list("state", flat=True))
