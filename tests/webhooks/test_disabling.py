"""An endpoint that does not take webhooks any more is disabled, its owner is told, and nothing is lost by it."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import Event, Notification, WebhookDelivery, WebhookEndpoint
from notifications.sockets.events import StreamEvent
from notifications.sockets.people import Person
from notifications.sockets.wire import plain_form
from notifications.stream import message_of
from notifications.webhooks import endpoints, gates
from tests.webhooks.deliveries import DOWN, GONE, OK, answered, claim, make_due, record, states

pytestmark = pytest.mark.django_db


def failing_for(endpoint, **since):
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        failing_since=timezone.now() - timedelta(**since), last_success_at=timezone.now() - timedelta(days=6)
    )


def fail(deliver, attempts, exchange=DOWN):
    deliver(1)
    for _ in range(attempts):
        WebhookEndpoint.objects.update(breaker="closed")
        WebhookDelivery.objects.update(state="pending", next_attempt_at=timezone.now(), attempt_count=0)
        taken = claim(1)
        assert taken
        record(taken, exchange)


@pytest.mark.parametrize("exchange", [DOWN, answered(500), answered(401), answered(404)])
def test_after_five_days_and_ten_attempts(deliver, endpoint, exchange):
    fail(deliver, 9, exchange)
    failing_for(endpoint, days=5, minutes=1)
    fail(deliver, 1, exchange)
    endpoint.refresh_from_db()
    assert endpoint.state == "disabled"
    assert endpoint.disabled_reason == (
        f"All of its last 10 attempts failed, for 5 days. The last one: {exchange.diagnosis}"
    )
    assert set(states()) == {"held"}


def test_not_before_five_days(deliver, endpoint):
    failing_for(endpoint, days=4, hours=23)
    fail(deliver, 30)
    endpoint.refresh_from_db()
    assert endpoint.state == "active"


def test_not_by_the_first_mishap_of_one_that_is_rarely_used(deliver, endpoint):
    fail(deliver, 1)
    failing_for(endpoint, days=30)
    fail(deliver, 8)
    endpoint.refresh_from_db()
    assert endpoint.state == "active"


def test_a_success_starts_the_days_over(deliver, endpoint):
    fail(deliver, 12)
    failing_for(endpoint, days=6)
    WebhookEndpoint.objects.update(breaker="closed")
    make_due()
    record(claim(1), OK)
    fail(deliver, 1)
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.consecutive_failures) == ("active", 1)


@pytest.fixture
def gone(deliver, endpoint, agent):
    """The agent's endpoint has answered 410; they have two more, of which one is paused."""
    endpoints.create(agent, "http://127.0.0.1:9/other")
    paused, _ = endpoints.create(agent, "http://127.0.0.1:9/paused")
    endpoints.pause(paused)
    deliver(2)
    record([item for item in claim(10) if item.delivery.endpoint_id == endpoint.pk], GONE)
    endpoint.refresh_from_db()
    return endpoint


def test_the_owner_is_told(gone, agent):
    assert (gone.state, gone.disabled_reason) == (
        "disabled",
        "It answered 410 Gone: it does not want webhooks any more.",
    )
    notification = Notification.objects.get(type="webhook_disabled")
    assert notification.recipient == agent
    assert (notification.related_type, notification.related_id) == ("webhook", gone.pk)
    assert notification.message == (
        "Your webhook endpoint at 127.0.0.1 was disabled. It answered 410 Gone: it does not want webhooks any more."
    )


def test_other_receivers_are_not_told_where_it_is(gone):
    """Its URL may be all that one needs to call it."""
    WebhookEndpoint.objects.filter(pk=gone.pk).update(url="https://user-hooks.example.com:8443/T0/secret?key=1")
    gone.refresh_from_db()
    endpoints.disable(gone, "It answered 410 Gone.")
    payload = json.loads(Event.objects.filter(action="disabled").latest("id").payload_staff)
    assert (payload["id"], payload["url"]) == (str(gone.pk), "https://user-hooks.example.com:8443/…")
    assert str(gone) == "user-hooks.example.com"  # as the admin writes it into its log


def test_by_other_endpoints_and_never_by_this_one(gone):
    told = WebhookDelivery.objects.filter(notification__type="webhook_disabled")
    assert sorted(told.values_list("endpoint__url", "state")) == [
        ("http://127.0.0.1:9/other", "pending"),
        ("http://127.0.0.1:9/paused", "held"),
    ]


def test_it_stands_in_the_notification_centre_and_is_nobody_elses(gone, agent, admin, api):
    types = [row["type"] for row in api(agent).get("/api/notifications").json()["results"]]
    assert types.count("webhook_disabled") == 1
    types = [row["type"] for row in api(admin).get("/api/notifications").json()["results"]]
    assert "webhook_disabled" not in types
    event = Event.objects.get(action="disabled")
    assert (event.visibility, event.person_id, "encrypted" in event.payload_staff) == ("person", agent.pk, False)


def test_once(gone, deliver):
    record([item for item in claim(10) if item.delivery.endpoint_id == gone.pk], GONE)
    assert Notification.objects.filter(type="webhook_disabled").count() == 1


def test_a_person_who_can_no_longer_sign_in_is_not_told(deliver, endpoint, agent):
    deliver(1)
    taken = claim()
    agent.deactivate()
    record(taken, GONE)
    endpoint.refresh_from_db()
    assert endpoint.state == "disabled"
    assert not Notification.objects.filter(type="webhook_disabled").exists()


def test_what_was_held_comes_after_it_is_resumed(gone, ticket, admin):
    with acting_as(admin):
        Comment(ticket=ticket, author=admin, content="While it is disabled").post()
    held = WebhookDelivery.objects.filter(endpoint=gone, state="held")
    assert held.count() == 3
    assert endpoints.resume(gone) == 3
    gates.release(timezone.now())
    assert len([item for item in claim(10) if item.delivery.endpoint_id == gone.pk]) == 3


def test_one_that_was_deleted_meanwhile_is_not_disabled_and_keeps_nothing(deliver, endpoint, agent):
    deliver(1)
    taken = claim()
    endpoints.delete(WebhookEndpoint.objects.get(pk=endpoint.pk))
    record(taken, GONE)
    assert not Notification.objects.filter(type="webhook_disabled").exists()
    # Held, it would never be sent and never be pruned, nor its endpoint with the secret.
    gates.repair()
    assert states() == ["cancelled"]


def test_the_receiver_is_named_without_what_may_be_secret_in_its_url():
    assert WebhookEndpoint(url="https://hooks.example.com/T0/secret").receiver == "hooks.example.com"
    assert WebhookEndpoint(url=endpoints.INTERNAL_RECEIVER).receiver == endpoints.INTERNAL_RECEIVER


@pytest.mark.parametrize("role", ["agent", "customer"])
def test_it_is_told_on_the_sockets(gone, agent, role):
    event = Event.objects.get(action="disabled")
    event.position = 1
    told = StreamEvent(message_of(event, list(event.notifications.all())))
    me, other = Person(agent.pk, role, "Agent"), Person(uuid4(), "admin", "Admin")
    frame = json.loads(told.notification_for(me, plain_form))
    assert (frame["type"], frame["event"]) == ("event", "notification")
    assert frame["notification"]["type"] == "webhook_disabled"
    assert frame["data"]["disabled_reason"] == gone.disabled_reason
    assert told.notification_for(other, plain_form) is None
    assert told.update_for(me, plain_form) is None
