"""/healthz, /readyz and /metrics: for load balancers and monitoring. Plain Django views: nobody signs in here."""

import hmac
import ipaddress

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from notifications import health
from notifications.api.metrics import Helpdesk


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """This process answers. Says nothing of what it depends on, so that a database outage restarts nothing."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Every part of the deployment is at work (200), or which is not (503). No detail that helps a stranger.

    Answers within `health.PATIENCE` seconds, also when the database or Redis are frozen.
    """
    checks = health.checks_in_time()
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
    registry.register(Helpdesk())
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
