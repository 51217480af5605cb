"""The metrics of /metrics: what the database knows, asked when it is scraped.

Every question is answered from a small table or a partial index, so that a million deliveries of history cost nothing.
Names, units and suffixes follow https://prometheus.io/docs/practices/naming/.
"""

from collections.abc import Iterator

from django.db.models import Count
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from notifications import health, workers
from notifications.models import BreakerState, DeliveryState, EndpointState, Event, EventStream, WebhookEndpoint
from notifications.models import WebhookDelivery as Delivery
from notifications.sockets.hub import hub
from notifications.webhooks import statistics

# Deliveries in a state are counted up to here: an alarm needs no more, and a scrape stays quick.
MAX_COUNTED = 100_000

_WAITING = (DeliveryState.PENDING, DeliveryState.RETRYING)
_NOT_ARRIVED = (DeliveryState.EXHAUSTED, DeliveryState.HELD, DeliveryState.LOOPED)


class Helpdesk(Collector):
    """All metrics of this installation, whichever process is asked; the sockets are those of the process itself."""

    def collect(self) -> Iterator[Metric]:
        yield from _deliveries()
        yield from _counters()
        yield from _endpoints()
        yield from _workers()
        yield from _events()
        yield _gauge("helpdesk_socket_connections", "Socket connections of the process that answers.", hub.open)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)


def _labelled(name: str, help_text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], value)
    return family


def _deliveries() -> Iterator[Metric]:
    waiting = Delivery.objects.filter(state__in=_WAITING)
    due = waiting.filter(next_attempt_at__lte=timezone.now())
    counted = {state: Delivery.objects.filter(state=state) for state in (*_WAITING, "sending", *_NOT_ARRIVED)}
    yield _labelled(
        "helpdesk_webhook_deliveries",
        f"Deliveries that are in a state now, counted up to {MAX_COUNTED}.",
        "state",
        {state: _count(queryset) for state, queryset in counted.items()},
    )
    yield _gauge("helpdesk_webhook_deliveries_due", f"Deliveries due now, counted up to {MAX_COUNTED}.", _count(due))
    age = health.oldest_due()
    yield _gauge(
        "helpdesk_webhook_oldest_due_seconds", "Age of the oldest due delivery.", age.total_seconds() if age else 0
    )


def _count(queryset) -> int:  # type: ignore[no-untyped-def]
    return queryset.order_by()[:MAX_COUNTED].count()


def _counters() -> Iterator[Metric]:
    totals = statistics.totals()
    attempts = CounterMetricFamily(
        "helpdesk_webhook_attempts", "Attempts to deliver, by what they ended in.", labels=["outcome"]
    )
    for outcome in statistics.OUTCOMES:
        attempts.add_metric([outcome], totals[statistics.ATTEMPTS].get(outcome, 0))
    yield attempts
    ended = CounterMetricFamily(
        "helpdesk_webhook_deliveries_ended", "Deliveries by what a worker left them as.", labels=["outcome"]
    )
    for state in statistics.ENDS:
        ended.add_metric([str(state)], totals[statistics.ENDED].get(state, 0))
    yield ended
    for name, help_text, metric in (
        ("helpdesk_webhook_attempt_duration_seconds", "How long attempts took.", statistics.DURATION),
        (
            "helpdesk_webhook_delivery_latency_seconds",
            "From a change to the delivery of its webhook, retries included.",
            statistics.LATENCY,
        ),
    ):
        buckets, total = statistics.buckets(totals[metric], statistics.HISTOGRAMS[metric])
        yield HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=total)


def _endpoints() -> Iterator[Metric]:
    states = dict.fromkeys(EndpointState.values, 0)
    breakers = dict.fromkeys(BreakerState.values, 0)
    rows = WebhookEndpoint.objects.filter(deleted_at=None).order_by().values_list("state", "breaker")
    for state, breaker, count in rows.annotate(count=Count("pk")):
        states[state] += count
        breakers[breaker] += count
    yield _labelled("helpdesk_webhook_endpoints", "Endpoints by state.", "state", states)
    yield _labelled("helpdesk_webhook_breakers", "Endpoints by the state of their breaker.", "state", breakers)


def _workers() -> Iterator[Metric]:
    known = workers.known()
    yield _labelled(
        "helpdesk_workers",
        "Worker processes: alive, or silent (killed or frozen within the last hour).",
        "state",
        {"alive": len(known.alive), "silent": len(known.silent)},
    )
    for name, help_text, moment in (
        ("helpdesk_worker_silence_seconds", "Time since any worker's last sign of life; -1: none.", known.last_beat),
        ("helpdesk_worker_sweep_age_seconds", "Time since the workers' clock last rang; -1: never.", known.swept_at),
    ):
        yield _gauge(name, help_text, max(0.0, (timezone.now() - moment).total_seconds()) if moment else -1)
    yield _gauge("helpdesk_worker_attempts_in_flight", "Attempts under way.", sum(w.in_flight for w in known.alive))
    yield _gauge(
        "helpdesk_worker_attempts_max", "Attempts that may be under way.", sum(w.concurrency for w in known.alive)
    )


def _events() -> Iterator[Metric]:
    age = health.oldest_unpublished()
    last, sent = EventStream.objects.values_list("last_position", "sent_position").first() or (0, 0)
    unpublished = _count(Event.objects.filter(position=None))
    yield _gauge("helpdesk_events_unpublished", "Events without their place in the stream.", unpublished)
    yield _gauge(
        "helpdesk_events_oldest_unpublished_seconds",
        "Age of the oldest event without its place in the stream.",
        age.total_seconds() if age else 0,
    )
    yield _gauge("helpdesk_events_unsent", "Events in the stream that were not sent to the sockets.", last - sent)
    yield CounterMetricFamily("helpdesk_events_published", "Events that got their place in the stream.", value=last)
