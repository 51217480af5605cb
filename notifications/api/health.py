"""/healthz, /readyz and /metrics: for load balancers and monitoring. Plain Django views: nobody signs in here."""

import hmac
import ipaddress
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from notifications import health


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """This process answers. Says nothing of what it depends on, so that a database outage restarts nothing."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Every part of the deployment is at work (200), or which is not (503). No detail that helps a stranger."""
    checks = health.checks()
    ok = all(check.ok for check in checks)
    return JsonResponse(
        {"status": "ok" if ok else "unavailable", "checks": {check.name: check.ok for check in checks}},
        status=200 if ok else 503,
    )


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics, for this machine or with METRICS_TOKEN."""
    if not _may_read_metrics(request):
        return HttpResponse("Not found.\n", status=404, content_type="text/plain")
    registry = CollectorRegistry()
    registry.register(_Queues())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    try:
        # Behind a proxy everyone comes from this machine: whoever was forwarded is a stranger.
        local = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
    return local and "X-Forwarded-For" not in request.headers and "Forwarded" not in request.headers


class _Queues(Collector):
    """What the database knows, asked when it is scraped; every question is answered from a small index."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        state = health.queues()
        for name, help_text, value in (
            ("helpdesk_webhook_deliveries_due", "Deliveries that are due now.", state.due),
            ("helpdesk_webhook_deliveries_waiting", "Deliveries waiting for a retry or due.", state.waiting),
            ("helpdesk_webhook_deliveries_sending", "Deliveries that a worker holds.", state.sending),
            ("helpdesk_webhook_oldest_due_seconds", "Age of the oldest due delivery.", state.oldest_due_seconds),
            ("helpdesk_worker_silence_seconds", "Time since a worker's last sign of life.", state.worker_silence),
            ("helpdesk_events_unpublished", "Events without their place in the stream.", state.unpublished),
            ("helpdesk_events_position", "The last position of the event stream.", state.position),
        ):
            yield GaugeMetricFamily(name, help_text, value=value)
