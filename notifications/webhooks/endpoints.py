"""Endpoints as their owners manage them: where a URL may point, secrets, pausing, deleting."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.http import Http404
from django.utils import timezone

from helpdesk.accounts.models import User
from notifications import bells
from notifications.encryption import SecretUnreadable, encrypt
from notifications.models import DeliveryState, EndpointState, WebhookEndpoint
from notifications.recording import record_webhook_disabled
from notifications.webhooks import breaker, destination, gates, headers
from notifications.webhooks.destination import DestinationRefused
from notifications.webhooks.headers import HeadersRefused
from notifications.webhooks.policy import current_policy
from notifications.webhooks.signing import generate_secret

# The receivers of this application: the paths they answer at, and the one that is kept.
INTERNAL_RECEIVER = "/api/notifications/webhooks/notifications"
INTERNAL_RECEIVERS = {INTERNAL_RECEIVER: INTERNAL_RECEIVER, "/api/webhooks/notifications": INTERNAL_RECEIVER}

# How long both secrets sign after a rotation: long enough to change a receiver's configuration by hand.
ROTATION_OVERLAP = timedelta(hours=24)


class EndpointDeleted(Http404):
    """It was deleted while somebody was about to change it."""


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
    return parts.scheme, (parts.hostname or "").lower(), parts.port or destination.DEFAULT_PORTS.get(parts.scheme, 0)


def set_primary(owner: User, url: str) -> tuple[WebhookEndpoint, str | None]:
    """Make the (normalised) `url` the one behind /api/users/me/webhook.

    Returns the endpoint and its secret, the latter only when it is new. The same URL again changes nothing. Another
    URL gets another secret, since whoever runs the old receiver knows the old one, and loses the headers that were
    meant for the old one; what was not delivered yet goes to the new URL.
    """
    with transaction.atomic():
        # The owner's row serialises two requests that both find no endpoint yet.
        User.objects.select_for_update().filter(pk=owner.pk).values("pk").get()
        own = WebhookEndpoint.objects.filter(owner=owner, is_primary=True, deleted_at=None)
        endpoint = own.select_for_update(no_key=True).first()
        if endpoint is None:
            return create(owner, url, is_primary=True)
        return endpoint, change(endpoint, url=url, own_headers={} if endpoint.url != url else None)


def create(
    owner: User,
    url: str,
    *,
    description: str = "",
    types: list[str] | None = None,
    own_headers: Mapping[str, str | None] | None = None,
    is_primary: bool = False,
    rate_limit: int | None = None,
    ordered: bool = False,
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which is shown this once. Raises HeadersRefused and TooManyEndpoints."""
    checked = headers.merged(own_headers or {}, {})
    with transaction.atomic():
        User.objects.select_for_update().filter(pk=owner.pk).values("pk").get()
        if WebhookEndpoint.objects.filter(owner=owner, deleted_at=None).count() >= settings.MAX_WEBHOOK_ENDPOINTS:
            raise TooManyEndpoints()
        secret = generate_secret()
        endpoint = WebhookEndpoint(
            owner=owner,
            url=url,
            description=description,
            types=types or [],
            is_primary=is_primary,
            rate_limit=rate_limit,
            ordered=ordered,
        )
        endpoint.set_secret(secret)
        endpoint.set_headers(checked)
        endpoint.save()
    return endpoint, secret


@contextmanager
def _locked(endpoint: WebhookEndpoint) -> Iterator[None]:
    """The endpoint as it is now, and nobody else's to change until the block ends, in a transaction.

    Deliveries for it may be written meanwhile. Raises EndpointDeleted.
    """
    with transaction.atomic():
        endpoint.refresh_from_db(from_queryset=WebhookEndpoint.objects.select_for_update(no_key=True))
        if endpoint.deleted_at:
            raise EndpointDeleted("The endpoint was deleted.")
        yield


def change(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    own_headers: Mapping[str, str | None] | None = None,
    **fields: Any,
) -> str | None:
    """Change what is given; returns the endpoint's new secret, which another (normalised) `url` brings, else None.

    Headers replace all that there were, a value of None keeping the present one. None is kept for another URL, since
    values are never sent to a receiver that they were not given for: whoever changes the URL of an endpoint with
    headers says which it has from now on. Another URL starts anew and is active, unless the owner has paused the
    endpoint: then it stays so. Raises HeadersRefused.
    """
    with _locked(endpoint):
        moves = url is not None and url != endpoint.url
        if moves and endpoint.header_names and own_headers is None:
            raise HeadersRefused(
                ["Another URL is another receiver: give the headers for it with their values, or {} for none."]
            )
        changed = set(fields)
        if own_headers is not None:
            endpoint.set_headers(headers.merged(own_headers, {} if moves else _kept(endpoint, own_headers)))
            changed |= {"header_names", "encrypted_header_values"}
        for name, value in fields.items():
            setattr(endpoint, name, value)
        secret = None
        if url is not None and moves:
            secret = generate_secret()
            endpoint.url = url
            endpoint.set_secret(secret)
            endpoint.encrypted_previous_secret = ""
            _forgive(endpoint)
            changed |= {"url", "encrypted_secret", "encrypted_previous_secret", *_FORGIVEN}
            if endpoint.state == EndpointState.DISABLED:
                endpoint.state = EndpointState.ACTIVE
                changed.add("state")
        if changed:
            # Nothing but this: a worker may be writing down meanwhile how the endpoint is doing.
            endpoint.save(update_fields=[*changed, "updated_at"])
        if moves:
            transaction.on_commit(bells.ring_deliveries, robust=True)
    return secret


def _kept(endpoint: WebhookEndpoint, given: Mapping[str, str | None]) -> dict[str, str]:
    """The present headers, where one of them is to be kept."""
    if None not in given.values():
        return {}
    try:
        return endpoint.headers()
    except SecretUnreadable:
        raise HeadersRefused(
            ["The values that are stored cannot be read with the keys of this installation: give them again."]
        ) from None


def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """A new secret. Until the overlap ends, the old one signs too, so that no delivery fails meanwhile.

    Two sign, never three: rotated again within the overlap, the oldest ends at once. So a secret that leaked can be
    ended without waiting.
    """
    secret = generate_secret()
    with _locked(endpoint):
        endpoint.encrypted_previous_secret = endpoint.encrypted_secret
        endpoint.previous_secret_until = timezone.now() + ROTATION_OVERLAP
        endpoint.encrypted_secret = encrypt(secret)
        endpoint.save(
            update_fields=["encrypted_secret", "encrypted_previous_secret", "previous_secret_until", "updated_at"]
        )
    return secret


def pause(endpoint: WebhookEndpoint) -> None:
    """Hold what comes from now on, and what is waiting. What is being sent this moment still goes out. A disabled one
    stays so.

    Of a large backlog the rest is held by the workers' claims, see `gates.clear`; none of it is sent.
    """
    with _locked(endpoint):
        if endpoint.state == EndpointState.ACTIVE:
            _stop(endpoint, EndpointState.PAUSED)


def disable(endpoint: WebhookEndpoint, reason: str) -> None:
    """Stop sending to an endpoint that does not take it any more: its deliveries are held, and its owner is told.

    Whoever calls has locked the endpoint's row, and writes its health besides.
    """
    with transaction.atomic():
        endpoint.disabled_reason = reason
        _stop(endpoint, EndpointState.DISABLED)
        record_webhook_disabled(endpoint)


def resume(endpoint: WebhookEndpoint) -> int:
    """Send again, starting with what was held; returns how many deliveries that is.

    They are released by the workers, as many at a time as the endpoint takes (`gates.release`).
    """
    with _locked(endpoint):
        endpoint.state = EndpointState.ACTIVE
        _forgive(endpoint)
        endpoint.save(update_fields=["state", *_FORGIVEN, "updated_at"])
        transaction.on_commit(bells.ring_deliveries, robust=True)
    return endpoint.deliveries.filter(state=DeliveryState.HELD).count()


def delete(endpoint: WebhookEndpoint) -> None:
    """Delete the endpoint; what it has not got yet is cancelled, its history stays until it is pruned.

    Of a large backlog the rest is cancelled by the workers, see `gates.clear`; none of it is sent.
    """
    with _locked(endpoint):
        endpoint.deleted_at = timezone.now()
        endpoint.save(update_fields=["deleted_at", "updated_at"])
        gates.clear(endpoint)


_FORGIVEN = ("disabled_reason", "holding", *breaker.RESET)


def _forgive(endpoint: WebhookEndpoint) -> None:
    endpoint.disabled_reason = ""
    breaker.reset(endpoint)
    endpoint.holding = True  # whatever is held comes back, see `gates.release`


def _stop(endpoint: WebhookEndpoint, state: EndpointState) -> None:
    endpoint.state = state
    endpoint.save(update_fields=["state", "disabled_reason", "updated_at"])
    gates.clear(endpoint)
