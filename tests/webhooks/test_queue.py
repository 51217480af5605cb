"""Claiming, recording and giving back: one sender at a time, nothing lost, rights checked when sending."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints, gates, outcomes, queue
from notifications.webhooks.outcomes import Result
from tests.webhooks.deliveries import DOWN, GONE, OK, answered, claim, record, roomy, states

pytestmark = pytest.mark.django_db


def test_a_claimed_delivery_is_nobody_elses(deliver):
    deliver(3)
    first, second = claim(2), claim(2)
    assert len(first) == 2
    assert len(second) == 1
    assert {c.delivery.pk for c in first}.isdisjoint(c.delivery.pk for c in second)


def test_an_endpoint_gets_no_more_than_its_share(deliver, endpoint):
    deliver(5)
    lanes = roomy(per_endpoint=3)
    lanes.reserve("out already", endpoint.pk)
    assert len(claim(10, lanes)) == 2
    for number in range(2):
        lanes.reserve(number, endpoint.pk)
    assert claim(10, lanes) == []


def test_success_is_recorded_with_its_attempt(deliver, endpoint):
    deliver()
    outcomes.record([Result(claimed, OK) for claimed in claim()])
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempt_count, delivery.next_attempt_at) == ("delivered", 1, None)
    assert delivery.attempts.get().succeeded
    endpoint.refresh_from_db()
    assert endpoint.last_success_at


def test_a_failure_waits_for_the_schedule(deliver, endpoint):
    deliver()
    before = timezone.now()
    outcomes.record([Result(claimed, DOWN) for claimed in claim()])
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.state_reason) == ("retrying", "refused the connection")
    assert timedelta(seconds=4) <= delivery.next_attempt_at - before <= timedelta(seconds=7)
    assert claim() == []  # not due yet
    endpoint.refresh_from_db()
    assert (endpoint.consecutive_failures, endpoint.last_failure) == (1, "refused the connection")


def test_the_last_failure_gives_up_and_redelivery_starts_over(deliver):
    delivery = deliver()[0]
    WebhookDelivery.objects.update(attempt_count=9)
    outcomes.record([Result(claimed, DOWN) for claimed in claim()])
    delivery.refresh_from_db()
    assert delivery.state == "exhausted"
    assert delivery.state_reason.startswith("Given up after 10 attempts")
    message_id = delivery.message_id
    assert queue.redeliver(WebhookDelivery.objects.all(), by_hand=True) == 1
    again = claim()[0].delivery
    assert (again.attempt_count, again.message_id) == (0, message_id)


def test_gone_disables_the_endpoint_and_holds_the_rest(deliver, endpoint):
    deliver(2)
    outcomes.record([Result(claimed, GONE) for claimed in claim(1)])
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
    outcomes.record([Result(lost[0], OK)])
    assert WebhookDelivery.objects.get().state == "sending"
    outcomes.record([Result(again[0], DOWN)])
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


@pytest.mark.django_db(transaction=True)
def test_a_delivery_that_was_pruned_while_it_was_sent_holds_up_no_result(deliver):
    deliver(2)
    pruned, other = claim()
    WebhookDelivery.objects.filter(pk=pruned.delivery.pk).delete()
    outcomes.record([Result(pruned, OK), Result(other, OK)])
    assert WebhookDelivery.objects.get().state == "delivered"
    outcomes.record([Result(pruned, OK)])


@pytest.mark.django_db(transaction=True)
def test_a_result_that_the_database_refuses_holds_up_no_other(deliver, caplog):
    deliver(3)
    one, bad, other = claim()
    outcomes.record([Result(one, OK), Result(bad, answered(-1)), Result(other, OK)])
    assert states() == ["delivered", "delivered", "sending"]
    assert {attempt.delivery_id for attempt in WebhookAttempt.objects.all()} == {one.delivery.pk, other.delivery.pk}
    assert bad.delivery.message_id in caplog.text


def test_whatever_was_answered_is_kept_as_it_is(deliver):
    """What means something to a COPY, too."""
    deliver()
    hard = "\\N\t\\.\r\n\b\\\\ é 😀 {} \\x41 ''\""
    outcomes.record([Result(item, answered(500, response_body=hard, response_head=hard)) for item in claim()])
    attempt = WebhookAttempt.objects.get()
    assert (attempt.response_body, attempt.response_head) == (hard, hard)


@pytest.mark.parametrize("exchange", [OK, DOWN, GONE])
def test_what_the_old_url_answered_says_nothing_of_the_new_one(deliver, endpoint, exchange):
    deliver(6)
    taken = claim()
    endpoints.change(WebhookEndpoint.objects.get(pk=endpoint.pk), url="http://127.0.0.1:9/moved")
    record(taken, exchange)
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.breaker, endpoint.consecutive_failures) == ("active", "closed", 0)
    assert (endpoint.last_success_at, endpoint.last_failure_at) == (None, None)
    assert not Notification.objects.filter(type="webhook_disabled").exists()
    # The deliveries are what they are: what was not delivered goes to the new URL.
    assert set(states()) == {{OK: "delivered", DOWN: "retrying", GONE: "held"}[exchange]}
    if exchange is GONE:
        gates.release(timezone.now())
        assert len(claim()) == 6


def test_of_two_urls_the_present_one_counts(deliver, endpoint):
    deliver(2)
    old = claim(1)
    endpoints.change(WebhookEndpoint.objects.get(pk=endpoint.pk), url="http://127.0.0.1:9/moved")
    outcomes.record([Result(old[0], GONE), *(Result(item, DOWN) for item in claim(1))])
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.consecutive_failures) == ("active", 1)
