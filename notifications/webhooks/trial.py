"""Sending one test for real, now, and telling what came of it."""

from dataclasses import replace
from uuid import uuid4

from django.utils import timezone

from notifications import examples
from notifications.catalogue import TEST_MESSAGE, WEBHOOK_TEST
from notifications.models import WebhookAttempt, WebhookEndpoint
from notifications.recording import record_test
from notifications.webhooks import http, outcomes, queue, sending, statistics
from notifications.webhooks.endpoint_health import with_recent
from notifications.webhooks.policy import current_policy

# In front of the message of an example, so that nobody takes it for news; the header `helpdesk-test` says so besides.
TEST_PREFIX = "Test: "


class NotSent(Exception):
    """The test was recorded, but its delivery was set aside; the message says why."""


def send_test(endpoint: WebhookEndpoint, type_: str = WEBHOOK_TEST) -> WebhookAttempt:
    """Deliver a test to the endpoint and return the recorded attempt, or raise NotSent.

    A `webhook_test` unless another type is asked for: that one is the type's example, whatever types the endpoint
    wants. KeyError for a type that there is not. Takes as long as the receiver does, at most the total deadline. One
    that fails is retried like any delivery.
    """
    if type_ == WEBHOOK_TEST:
        current = with_recent(WebhookEndpoint.objects.filter(pk=endpoint.pk)).first() or endpoint
        example = examples.of_endpoint(current, TEST_MESSAGE)
    else:
        example = examples.of(type_)
        example = replace(example, message=TEST_PREFIX + example.message)
    lease = uuid4()
    record_test(endpoint, example, lease, timezone.now() + queue.lease_length())
    policy = current_policy()
    with http.open_session(policy) as session:
        results = [sending.send(session, claimed, policy) for claimed in queue.load(lease)]
    if not results:
        raise NotSent("The endpoint was deleted, or its owner deactivated.")
    outcomes.record(results)
    statistics.flush()
    return WebhookAttempt.objects.get(delivery=results[0].claimed.delivery)
