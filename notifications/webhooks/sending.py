"""One delivery on its way: the signed request, to a receiver elsewhere or to the one inside this application."""

import time
from collections.abc import Mapping
from dataclasses import replace

from django.utils import timezone

from helpdesk.changes import trace
from notifications.payloads import webhook_body
from notifications.webhooks import headers as own_headers
from notifications.webhooks import http, loops, receiver, signing
from notifications.webhooks.destination import Policy
from notifications.webhooks.http import Exchange
from notifications.webhooks.outcomes import Result
from notifications.webhooks.queue import Claimed

DELIVERY_HEADER = "helpdesk-delivery-id"
ATTEMPT_HEADER = "helpdesk-delivery-attempt"
# The event's place in the stream: the cursor of sockets and feed.
SEQUENCE_HEADER = "helpdesk-sequence"
TEST_HEADER = "helpdesk-test"


def signed_request(claimed: Claimed, own: Mapping[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of this attempt, the endpoint's `own` headers among them.

    The body is the same on every attempt, the timestamp and signature are not.
    """
    delivery = claimed.delivery
    body = webhook_body(delivery.notification, delivery.notification.event, delivery.endpoint.owner.role)
    timestamp = int(time.time())
    return body, {
        **(own or {}),
        signing.ID_HEADER: delivery.message_id,
        signing.TIMESTAMP_HEADER: str(timestamp),
        signing.SIGNATURE_HEADER: signing.sign(delivery.endpoint.secrets(), delivery.message_id, timestamp, body),
        DELIVERY_HEADER: str(delivery.pk),
        ATTEMPT_HEADER: str(delivery.attempt_count + 1),
        SEQUENCE_HEADER: str(delivery.notification.event.position),
        **({TEST_HEADER: "true"} if delivery.notification.event.action == "test" else {}),
        trace.HEADER: loops.trace_of(delivery),
    }


def send(session: http.Session, claimed: Claimed, policy: Policy) -> Result:
    """Deliver once and tell what came of it. Never raises for what the receiver does."""
    endpoint, now = claimed.delivery.endpoint, timezone.now()
    try:
        own = endpoint.headers()
        body, headers = signed_request(claimed, own)
    except Exception as error:  # a secret that no key opens: the owner must hear of it, the worker must go on
        return Result(claimed, Exchange(error="not_sendable", diagnosis=str(error)[:300], total_ms=0.0), now)
    if endpoint.is_internal:
        return Result(claimed, _send_inside(headers, body), now)
    exchange = http.post(session, endpoint.url, body, headers, policy, person=endpoint.owner_id)
    return Result(claimed, _without_echo(exchange, own) if own else exchange, now)


def _without_echo(exchange: Exchange, own: Mapping[str, str]) -> Exchange:
    """The exchange as it may be kept: a receiver that answers with what it got shows no header's value to anybody."""
    return replace(
        exchange,
        response_head=own_headers.masked(exchange.response_head, own),
        response_body=own_headers.masked(exchange.response_body, own),
    )


def _send_inside(headers: dict[str, str], body: bytes) -> Exchange:
    """Hand the signed bytes to our own receiver, without a detour over HTTP."""
    started = time.perf_counter()
    try:
        receiver.receive(headers, body)
    except receiver.Refused as refusal:
        status, diagnosis = refusal.status, str(refusal)
    else:
        status, diagnosis = 200, "received by this application"
    return Exchange(
        status=status,
        diagnosis=diagnosis,
        address="in-process",
        total_ms=(time.perf_counter() - started) * 1000,
    )
