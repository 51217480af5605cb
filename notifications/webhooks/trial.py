"""Sending one `webhook_test` for real, now, and telling what came of it."""

from uuid import uuid4

from django.utils import timezone

from notifications.models import WebhookAttempt, WebhookEndpoint
from notifications.recording import record_webhook_test
from notifications.webhooks import http, queue, sending
from notifications.webhooks.policy import current_policy

MESSAGE = "Test notification for webhook verification"


class NotSent(Exception):
    """The test was recorded, but its delivery was set aside; the message says why."""


def send_test(endpoint: WebhookEndpoint) -> WebhookAttempt:
    """Deliver a `webhook_test` to the endpoint and return the recorded attempt, or raise NotSent.

    Takes as long as the receiver does, at most the total deadline. One that fails is retried like any delivery.
    """
    lease = uuid4()
    record_webhook_test(
        endpoint,
        MESSAGE,
        "notifications.api.serializers.WebhookEndpointSerializer",
        lease,
        timezone.now() + queue.lease_length(),
    )
    policy = current_policy()
    with http.open_session(policy) as session:
        results = [sending.send(session, claimed, policy) for claimed in queue.load(lease)]
    if not results:
        raise NotSent("The endpoint was deleted, or its owner deactivated.")
    queue.record(results)
    return WebhookAttempt.objects.get(delivery=results[0].claimed.delivery)
