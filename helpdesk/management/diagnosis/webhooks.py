"""Endpoints that get nothing at present. Their receivers' fault, as a rule: to know, and no reason for an alarm."""

from urllib.parse import urlsplit

from django.db.models import QuerySet
from django.utils import timezone

from notifications.health import Check
from notifications.models import BreakerState, EndpointState, WebhookEndpoint

NAMED = 5  # endpoints that are named; the admin lists them all


def breakers(name: str) -> Check:
    """Endpoints that are left alone for a while because they fail."""
    found = WebhookEndpoint.objects.filter(deleted_at=None).exclude(breaker=BreakerState.CLOSED)
    count = found.count()
    if not count:
        return Check(name, True, "none is open")
    return Check(
        name,
        True,
        f"{count} open: {_named(found, count, lambda endpoint: _until(endpoint))}",
        "What is due for them waits, and one delivery at a time tries whether they are back. Nothing to do here: "
        "their owners see the reason at their endpoint.",
    )


def disabled(name: str) -> Check:
    """Endpoints that get nothing until their owners resume them."""
    found = WebhookEndpoint.objects.filter(deleted_at=None, state=EndpointState.DISABLED)
    count = found.count()
    if not count:
        return Check(name, True, "none")
    return Check(
        name,
        True,
        f"{count}: {_named(found, count, lambda endpoint: endpoint.disabled_reason)}",
        "What is for them is held. When the receiver works again, its owner or the admin resumes the endpoint; "
        "then it gets what was held.",
    )


def _named(found: QuerySet[WebhookEndpoint], count: int, detail) -> str:  # type: ignore[no-untyped-def]
    """Host and owner of some; never the whole URL, whose path may be a secret."""
    some = [
        f"{urlsplit(endpoint.url).hostname or 'this application'} of {endpoint.owner.username}"
        + (f" ({text.rstrip('.')})" if (text := detail(endpoint)) else "")
        for endpoint in found.select_related("owner").order_by("failing_since", "id")[:NAMED]
    ]
    return ", ".join(some) + (f" and {count - NAMED} more" if count > NAMED else "")


def _until(endpoint: WebhookEndpoint) -> str:
    if endpoint.breaker_until is None or endpoint.breaker_until <= timezone.now():
        return endpoint.last_failure
    return f"{endpoint.last_failure or 'it failed'}; next try at {endpoint.breaker_until:%H:%M:%S} UTC"
