"""Claiming, recording and giving back: one sender at a time, nothing lost, rights checked when sending."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import WebhookDelivery
from notifications.webhooks import endpoints, queue
from notifications.webhooks.http import Exchange
from notifications.webhooks.queue import Result

pytestmark = pytest.mark.django_db

OK = Exchange(status=200, diagnosis="answered 200 OK", total_ms=3.0)
DOWN = Exchange(error="connection_refused", diagnosis="refused the connection", total_ms=1.0)
GONE = Exchange(status=410, diagnosis="answered 410 Gone", total_ms=1.0)


@pytest.fixture
def endpoint(agent, ticket):
    ticket.assignee = agent
    ticket.save()
    return endpoints.create(agent, "http://127.0.0.1:9/a")[0]


@pytest.fixture
def deliver(ticket, admin, endpoint):
    """Comments on the agent's ticket: a delivery each."""

    def deliver(count=1):
        with acting_as(admin):
            for number in range(count):
                Comment(ticket=ticket, author=admin, content=f"Comment {number}").post()
        return list(WebhookDelivery.objects.order_by("id"))

    return deliver


def claim(limit=10, in_flight=None, per_endpoint=8):
    return queue.claim(limit, in_flight=in_flight or {}, per_endpoint=per_endpoint)


def test_a_claimed_delivery_is_nobody_elses(deliver):
    deliver(3)
    first, second = claim(2), claim(2)
    assert len(first) == 2
    assert len(second) == 1
    assert {c.delivery.pk for c in first}.isdisjoint(c.delivery.pk for c in second)


def test_an_endpoint_gets_no_more_than_its_share(deliver, endpoint):
    deliver(5)
    assert len(claim(10, in_flight={endpoint.pk: 1}, per_endpoint=3)) == 2
    assert claim(10, in_flight={endpoint.pk: 3}, per_endpoint=3) == []


def test_success_is_recorded_with_its_attempt(deliver, endpoint):
    deliver()
    queue.record([Result(claimed, OK) for claimed in claim()])
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempt_count, delivery.next_attempt_at) == ("delivered", 1, None)
    assert delivery.attempts.get().succeeded
    endpoint.refresh_from_db()
    assert endpoint.last_success_at


def test_a_failure_waits_for_the_schedule(deliver, endpoint):
    deliver()
    before = timezone.now()
    queue.record([Result(claimed, DOWN) for claimed in claim()])
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.state_reason) == ("retrying", "refused the connection")
    assert timedelta(seconds=4) <= delivery.next_attempt_at - before <= timedelta(seconds=7)
    assert claim() == []  # not due yet
    endpoint.refresh_from_db()
    assert (endpoint.consecutive_failures, endpoint.last_failure) == (1, "refused the connection")


def test_the_last_failure_gives_up_and_redelivery_starts_over(deliver):
    delivery = deliver()[0]
    WebhookDelivery.objects.update(attempt_count=9)
    queue.record([Result(claimed, DOWN) for claimed in claim()])
    delivery.refresh_from_db()
    assert delivery.state == "exhausted"
    assert delivery.state_reason.startswith("Given up after 10 attempts")
    message_id = delivery.message_id
    assert queue.redeliver(WebhookDelivery.objects.all()) == 1
    again = claim()[0].delivery
    assert (again.attempt_count, again.message_id) == (0, message_id)


def test_gone_disables_the_endpoint_and_holds_the_rest(deliver, endpoint):
    deliver(2)
    queue.record([Result(claimed, GONE) for claimed in claim(1)])
    endpoint.refresh_from_db()
    assert endpoint.state == "disabled"
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"held"}


def test_a_lost_lease_is_due_again_and_its_late_result_counts_for_nothing(deliver):
    deliver()
    lost = claim()
    assert queue.give_back_expired() == 0
    WebhookDelivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert queue.give_back_expired() == 1
    again = claim()
    assert len(again) == 1
    queue.record([Result(lost[0], OK)])
    assert WebhookDelivery.objects.get().state == "sending"
    queue.record([Result(again[0], DOWN)])
    assert WebhookDelivery.objects.get().state == "retrying"


def test_given_back_when_a_worker_stops(deliver):
    deliver()
    queue.give_back(claim())
    assert len(claim()) == 1


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda ticket, agent: agent.deactivate(), "cancelled"),
        (lambda ticket, agent: (setattr(agent, "role", "customer"), agent.save()), "cancelled"),
        (lambda ticket, agent: endpoints.delete(agent.webhook_endpoints.get()), "cancelled"),
        (lambda ticket, agent: endpoints.pause(agent.webhook_endpoints.get()), "held"),
    ],
    ids=["deactivated", "demoted", "endpoint deleted", "endpoint paused"],
)
def test_rights_are_checked_when_sending(deliver, ticket, agent, change, state):
    delivery = deliver()[0]
    change(ticket, agent)
    assert claim() == []
    delivery.refresh_from_db()
    assert delivery.state == state
    assert delivery.state_reason


def test_a_comment_turned_internal_is_not_sent_to_the_customer(ticket, customer, admin):
    endpoints.create(customer, "http://127.0.0.1:9/c")
    with acting_as(admin):
        comment = Comment(ticket=ticket, author=admin, content="Secret after all").post()
        comment.is_internal = True
        comment.save()
    assert claim() == []
    assert set(WebhookDelivery.objects.values_list("state", "state_reason")) == {
        ("cancelled", "The endpoint's owner may no longer see this.")
    }


def test_a_moved_ticket_takes_its_conversation_along(ticket, customer, other_customer, admin):
    endpoints.create(customer, "http://127.0.0.1:9/c")
    with acting_as(admin):
        Comment(ticket=ticket, author=admin, content="For whose eyes?").post()
        ticket.requester = other_customer
        ticket.save()
    assert claim() == []
    assert WebhookDelivery.objects.get().state == "cancelled"


def test_announcements_wait_behind_what_concerns_one_person(deliver):
    first, second = deliver(2)
    WebhookDelivery.objects.filter(pk=first.pk).update(priority=1)
    assert [claimed.delivery.pk for claimed in claim(1)] == [second.pk]


def test_an_unknown_lease_holds_nothing():
    assert queue.load(uuid4()) == []
