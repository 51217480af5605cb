"""One delivery on its way: the signed request, to a receiver elsewhere or to the one inside this application."""

import time

from notifications.payloads import webhook_body
from notifications.webhooks import http, receiver, signing
from notifications.webhooks.destination import Policy
from notifications.webhooks.http import Exchange
from notifications.webhooks.queue import Claimed, Result

DELIVERY_HEADER = "helpdesk-delivery-id"
ATTEMPT_HEADER = "helpdesk-delivery-attempt"


def signed_request(claimed: Claimed) -> tuple[bytes, dict[str, str]]:
    """Body and headers of this attempt. The body is the same on every attempt, the timestamp and signature are not."""
    delivery = claimed.delivery
    body = webhook_body(delivery.notification, delivery.notification.event, delivery.endpoint.owner.role)
    timestamp = int(time.time())
    return body, {
        signing.ID_HEADER: delivery.message_id,
        signing.TIMESTAMP_HEADER: str(timestamp),
        signing.SIGNATURE_HEADER: signing.sign(delivery.endpoint.secrets(), delivery.message_id, timestamp, body),
        DELIVERY_HEADER: str(delivery.pk),
        ATTEMPT_HEADER: str(delivery.attempt_count + 1),
    }


def send(session: http.Session, claimed: Claimed, policy: Policy) -> Result:
    """Deliver once and tell what came of it. Never raises for what the receiver does."""
    try:
        body, headers = signed_request(claimed)
    except Exception as error:  # a secret that no key opens: the owner must hear of it, the worker must go on
        return Result(claimed, Exchange(error="not_sendable", diagnosis=str(error)[:300], total_ms=0.0))
    if claimed.delivery.endpoint.is_internal:
        return Result(claimed, _send_inside(headers, body))
    return Result(claimed, http.post(session, claimed.delivery.endpoint.url, body, headers, policy))


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
