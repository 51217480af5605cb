"""Endpoints as their owners manage them: where a URL may point, secrets, pausing, deleting."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from helpdesk.accounts.models import User
from notifications import bells
from notifications.encryption import encrypt
from notifications.models import BreakerState, DeliveryState, EndpointState, WebhookEndpoint
from notifications.webhooks import destination
from notifications.webhooks.destination import DestinationRefused
from notifications.webhooks.policy import current_policy
from notifications.webhooks.signing import generate_secret

# The receivers of this application: the paths they answer at, and the one that is kept.
INTERNAL_RECEIVER = "/api/notifications/webhooks/notifications"
INTERNAL_RECEIVERS = {INTERNAL_RECEIVER: INTERNAL_RECEIVER, "/api/webhooks/notifications": INTERNAL_RECEIVER}

# How long both secrets sign after a rotation: long enough to change a receiver's configuration by hand.
ROTATION_OVERLAP = timedelta(hours=24)

_DEFAULT_PORTS = {"http": 80, "https": 443}


class TooManyEndpoints(Exception):
    def __init__(self) -> None:
        super().__init__(f"A person has at most {settings.MAX_WEBHOOK_ENDPOINTS} webhook endpoints.")


def normalize_url(url: str, own_origins: tuple[str, ...] = ()) -> str:
    """The one form of a webhook URL: absolute, or the path of an internal receiver.

    `own_origins` are addresses of this very site (`http://localhost:5000`) besides PUBLIC_URL; a URL there is the
    same as its path. Raises DestinationRefused for anything that may not be called.
    """
    if url.startswith("/"):
        return _internal(url)
    parsed = destination.parse(url)
    origins = {_origin(origin) for origin in (settings.PUBLIC_URL, *own_origins)}
    if (parsed.scheme, parsed.host, parsed.port) in origins:
        return _internal(parsed.target)
    destination.check(parsed, current_policy())
    return parsed.url


def _internal(path: str) -> str:
    try:
        return INTERNAL_RECEIVERS[destination.parse_own_path(path)]
    except KeyError:
        raise DestinationRefused(
            "no_such_receiver",
            f"this application receives webhooks at {INTERNAL_RECEIVER}; for another path give the whole URL "
            "of another application",
        ) from None


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def set_primary(owner: User, url: str) -> tuple[WebhookEndpoint, str | None]:
    """Make the (normalised) `url` the one behind /api/users/me/webhook.

    Returns the endpoint and its secret, the latter only when it is new. The same URL again changes nothing. Another
    URL gets another secret, since whoever runs the old receiver knows the old one; what was not delivered yet goes
    to the new URL.
    """
    with transaction.atomic():
        # The owner's row serialises two requests that both find no endpoint yet.
        User.objects.select_for_update().filter(pk=owner.pk).values("pk").get()
        endpoint = WebhookEndpoint.objects.filter(owner=owner, is_primary=True, deleted_at=None).first()
        if endpoint is None:
            return create(owner, url, is_primary=True)
        if endpoint.url == url:
            return endpoint, None
        secret = generate_secret()
        endpoint.url = url
        endpoint.set_secret(secret)
        endpoint.encrypted_previous_secret = ""
        _heal(endpoint)
        endpoint.save()
    return endpoint, secret


def create(
    owner: User, url: str, *, description: str = "", types: list[str] | None = None, is_primary: bool = False
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which is shown this once. Raises TooManyEndpoints."""
    with transaction.atomic():
        User.objects.select_for_update().filter(pk=owner.pk).values("pk").get()
        if WebhookEndpoint.objects.filter(owner=owner, deleted_at=None).count() >= settings.MAX_WEBHOOK_ENDPOINTS:
            raise TooManyEndpoints()
        secret = generate_secret()
        endpoint = WebhookEndpoint(
            owner=owner, url=url, description=description, types=types or [], is_primary=is_primary
        )
        endpoint.set_secret(secret)
        endpoint.save()
    return endpoint, secret


def change_url(endpoint: WebhookEndpoint, url: str) -> str | None:
    """Point the endpoint at another (normalised) URL; returns its new secret, or None when nothing changed."""
    if endpoint.url == url:
        return None
    secret = generate_secret()
    endpoint.url = url
    endpoint.set_secret(secret)
    endpoint.encrypted_previous_secret = ""
    _heal(endpoint)
    endpoint.save()
    return secret


def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """A new secret. Until the overlap ends, the old one signs too, so that no delivery fails meanwhile."""
    secret = generate_secret()
    endpoint.encrypted_previous_secret = endpoint.encrypted_secret
    endpoint.previous_secret_until = timezone.now() + ROTATION_OVERLAP
    endpoint.encrypted_secret = encrypt(secret)
    endpoint.save(
        update_fields=["encrypted_secret", "encrypted_previous_secret", "previous_secret_until", "updated_at"]
    )
    return secret


def pause(endpoint: WebhookEndpoint) -> None:
    """Hold what comes from now on, and what is waiting. What is being sent this moment still goes out."""
    _stop(endpoint, EndpointState.PAUSED, "The endpoint is paused.")


def disable(endpoint: WebhookEndpoint, reason: str) -> None:
    """Stop sending to an endpoint that does not want it any more; its deliveries are held."""
    endpoint.disabled_reason = reason
    _stop(endpoint, EndpointState.DISABLED, "The endpoint is disabled.")


def resume(endpoint: WebhookEndpoint) -> int:
    """Send again, starting with what was held; returns how many deliveries that is."""
    with transaction.atomic():
        _heal(endpoint)
        endpoint.save()
        released = endpoint.deliveries.filter(state=DeliveryState.HELD).update(
            state=DeliveryState.PENDING, state_reason="", next_attempt_at=timezone.now()
        )
        transaction.on_commit(bells.ring_deliveries, robust=True)
    return released


def delete(endpoint: WebhookEndpoint) -> None:
    """Delete the endpoint; what it has not got yet is cancelled, its history stays until it is pruned."""
    with transaction.atomic():
        endpoint.deleted_at = timezone.now()
        endpoint.save(update_fields=["deleted_at", "updated_at"])
        endpoint.deliveries.filter(
            state__in=(DeliveryState.PENDING, DeliveryState.RETRYING, DeliveryState.HELD)
        ).update(state=DeliveryState.CANCELLED, state_reason="The endpoint was deleted.", next_attempt_at=None)


def _heal(endpoint: WebhookEndpoint) -> None:
    endpoint.state = EndpointState.ACTIVE
    endpoint.disabled_reason = ""
    endpoint.breaker, endpoint.breaker_until = BreakerState.CLOSED, None
    endpoint.consecutive_failures, endpoint.failing_since = 0, None


def _stop(endpoint: WebhookEndpoint, state: EndpointState, reason: str) -> None:
    with transaction.atomic():
        endpoint.state = state
        endpoint.save(update_fields=["state", "disabled_reason", "updated_at"])
        endpoint.deliveries.filter(state__in=(DeliveryState.PENDING, DeliveryState.RETRYING)).update(
            state=DeliveryState.HELD, state_reason=reason, next_attempt_at=None
        )
