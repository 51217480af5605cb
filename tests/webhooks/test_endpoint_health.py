"""How an endpoint is doing, in numbers and in words, from a bounded look at its newest deliveries."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.models import Event, Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoint_health, endpoints
from notifications.webhooks.endpoint_health import Recent, recent_of, sentence, with_recent
from tests.webhooks.receiver import Receiver, answering

pytestmark = pytest.mark.django_db

NOW = timezone.now()
URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def endpoint(agent) -> WebhookEndpoint:
    return endpoints.create(agent, URL)[0]


@pytest.fixture
def sent(admin, endpoint):
    """Deliveries to the endpoint: `sent(3, state="delivered", ms=12.5, hours=1)`."""

    def sent(count=1, *, state="delivered", attempts=1, ms=None, hours=1.0, to=None):
        to = to or endpoint
        events = Event.objects.bulk_create(
            Event(entity="ticket", action="created", entity_id=admin.pk, payload_staff="{}") for _ in range(count)
        )
        moment = timezone.now() - timedelta(hours=hours)
        notifications = Notification.objects.bulk_create(
            Notification(
                event=event, recipient=to.owner, type="new_ticket", message="x", related_type="ticket",
                related_id=admin.pk,
            )
            for event in events
        )  # fmt: skip
        deliveries = WebhookDelivery.objects.bulk_create(
            WebhookDelivery(
                endpoint=to, notification=one, state=state, attempt_count=attempts, created_at=moment,
                next_attempt_at=None,
            )
            for one in notifications
        )  # fmt: skip
        WebhookAttempt.objects.bulk_create(
            WebhookAttempt(delivery=delivery, number=1, succeeded=True, total_ms=ms)
            for delivery in (deliveries if ms is not None else ())
        )

    return sent


def recent(endpoint):
    return recent_of(with_recent(WebhookEndpoint.objects.filter(pk=endpoint.pk)).get())


def said(endpoint, **fields):
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)
    return sentence(with_recent(WebhookEndpoint.objects.filter(pk=endpoint.pk)).get())


def test_what_is_counted(endpoint, sent):
    assert (recent(endpoint).tried, recent(endpoint).success_rate, recent(endpoint).median_ms) == (0, None, None)
    sent(7, ms=10.0)
    sent(1, state="retrying")
    sent(1, state="exhausted", attempts=10)
    sent(1, state="held", attempts=2)
    for state in ("pending", "held", "cancelled"):
        sent(5, state=state, attempts=0)
    sent(3, state="cancelled", attempts=1)
    sent(50, hours=25, state="exhausted")
    found = recent(endpoint)
    assert (found.tried, found.delivered, found.success_rate, found.is_sample) == (10, 7, 0.7, False)


def test_how_quickly(endpoint, sent):
    for ms in range(1, 61):
        sent(ms=float(ms))
    assert (recent(endpoint).median_ms, recent(endpoint).p95_ms) == (30.0, 57.0)


def test_only_the_newest_are_looked_at(endpoint, sent, monkeypatch):
    monkeypatch.setattr(endpoint_health, "SAMPLE", 20)
    sent(30, state="exhausted", hours=20)
    sent(20, hours=1)
    found = recent(endpoint)
    assert (found.tried, found.delivered, found.is_sample) == (20, 20, True)
    assert said(endpoint) == "It works: all of the newest 20 deliveries of the last 24 hours arrived."


def test_where_nothing_has_arrived_it_does_not_say_that_it_works(endpoint, sent, monkeypatch):
    sent(1, state="retrying")
    assert said(endpoint) == "The delivery of the last 24 hours has not arrived yet."
    sent(3, state="held")
    assert said(endpoint) == "None of the 4 deliveries of the last 24 hours has arrived yet."
    monkeypatch.setattr(endpoint_health, "SAMPLE", 4)
    assert said(endpoint) == "None of the newest 4 deliveries of the last 24 hours has arrived yet."
    sent(4, state="held", attempts=0, hours=0.5)
    assert said(endpoint) == "None of the newest 4 deliveries of the last 24 hours has arrived yet."


def test_a_backlog_that_waits_does_not_hide_what_was_tried(endpoint, sent, monkeypatch):
    monkeypatch.setattr(endpoint_health, "SAMPLE", 4)
    monkeypatch.setattr(endpoint_health, "LOOKED_AT", 20)
    sent(3, ms=7.0, hours=3)
    sent(3, state="retrying", hours=2)
    sent(10, state="held", attempts=0, hours=1)
    found = recent(endpoint)
    assert (found.tried, found.delivered, found.is_sample, found.median_ms) == (4, 1, True, 7.0)
    # No more are looked at, however many wait.
    sent(20, state="held", attempts=0, hours=0.5)
    assert recent(endpoint) == Recent()
    assert said(endpoint, last_success_at=timezone.now() - timedelta(hours=3, minutes=1)) == (
        "Many deliveries are waiting to be sent; the last success was 3 hours ago."
    )


def test_of_one_endpoint_says_nothing_of_another(endpoint, sent, agent):
    other, _ = endpoints.create(agent, URL)
    sent(3, state="exhausted", to=other)
    assert recent(endpoint).tried == 0
    assert recent(other).tried == 3


def test_in_words(endpoint, sent):
    assert said(endpoint) == "Nothing was sent to it yet."
    assert said(endpoint, last_success_at=NOW - timedelta(days=3, minutes=1)) == (
        "Nothing was sent in the last 24 hours; the last success was 3 days ago."
    )
    sent(1)
    assert said(endpoint) == "It works: the delivery of the last 24 hours arrived."
    sent(5)
    assert said(endpoint) == "It works: all 6 deliveries of the last 24 hours arrived."
    sent(2, state="exhausted")
    assert said(endpoint) == "It works: 6 of 8 deliveries of the last 24 hours arrived."
    failing = {
        "failing_since": timezone.now() - timedelta(hours=3, minutes=5),
        "consecutive_failures": 14,
        "last_failure": "the certificate expired 2 days ago",
    }
    assert (
        said(endpoint, **failing) == "It has failed for 3 hours, 14 times in a row: the certificate expired 2 days ago."
    )
    assert said(endpoint, breaker="open", breaker_until=timezone.now() + timedelta(minutes=8, seconds=30)) == (
        "It has failed for 3 hours, 14 times in a row: the certificate expired 2 days ago. "
        "It is left alone for 8 minutes, then one delivery is tried."
    )
    assert said(endpoint, breaker_until=NOW - timedelta(minutes=1)).endswith("; one delivery is tried next.")
    assert "getting better" in said(endpoint, breaker="half_open")
    assert said(endpoint, state="paused", breaker="closed").startswith("Paused, what comes is held. It has failed for")
    assert said(endpoint, state="disabled", disabled_reason="It answered 410 Gone.") == (
        "Disabled, what comes is held. It answered 410 Gone."
    )


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_told_with_its_time_by_the_api(api, agent):
    with Receiver(answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as receiver:
        endpoint, _ = endpoints.create(agent, receiver.url())
        api(agent).post(f"/api/webhook-endpoints/{endpoint.pk}/test")
    health = api(agent).get(f"/api/webhook-endpoints/{endpoint.pk}").json()["health"]
    assert health["summary"].startswith("It has failed for less than a minute: answered 503")
    assert health["last_failure"] == "answered 503, it is overloaded or being repaired"
    assert health["last_failure_at"] >= health["failing_since"]
    assert health["recent"] == {
        "deliveries": 1, "delivered": 0, "success_rate": 0.0, "median_ms": None, "p95_ms": None,
    }  # fmt: skip


@pytest.mark.parametrize("count", [2, 30])
def test_a_list_asks_the_same_however_long_it_is(api, admin, agent, sent, settings, count):
    settings.MAX_WEBHOOK_ENDPOINTS = 100
    for _ in range(count):
        sent(3, ms=5.0, to=endpoints.create(agent, URL)[0])
    with CaptureQueriesContext(connection) as captured:
        results = api(admin).get("/api/webhook-endpoints?limit=100").json()["results"]
    assert len(captured) == 2  # who is asking, and the endpoints with everything
    assert [one["health"]["recent"]["delivered"] for one in results] == [0] + [3] * count
