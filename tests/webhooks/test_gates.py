"""Rate limits and order, in all workers together."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from notifications import examples
from notifications.models import Event, WebhookDelivery, WebhookEndpoint
from notifications.numbering import number_events
from notifications.recording import record_test
from notifications.webhooks import endpoints, gates, queue
from notifications.webhooks.lanes import Pace
from tests.webhooks.deliveries import DOWN, OK, claim, make_due, record, roomy, states
from tickets.models import Ticket

pytestmark = pytest.mark.django_db


def set_on(endpoint, **fields):
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)


class TestRateLimit:
    @pytest.fixture
    def clock(self, monkeypatch):
        """Claims happen when the test says."""

        class Clock:
            now = timezone.now() + timedelta(seconds=1)

            def advance(self, seconds):
                self.now += timedelta(seconds=seconds)

        clock = Clock()
        monkeypatch.setattr(queue.timezone, "now", lambda: clock.now)
        return clock

    @pytest.mark.parametrize("rate", [2, 40])
    def test_is_kept_by_several_workers_together(self, deliver, endpoint, clock, rate):
        deliver(20)
        set_on(endpoint, rate_limit=rate)
        times = []
        workers = [roomy(per_endpoint=1000) for _ in range(2)]
        for step in range(40):
            for worker in workers:
                times += [step * 0.05] * len(queue.claim(100, worker).taken)
            clock.advance(0.05)
        for window in (0.2, 1, 2):
            most = max(sum(start <= time < start + window for time in times) for start in times)
            # The first one is free, and what may be sent at once after a pause comes on top.
            assert most <= rate * window + rate * gates.PACE + 1
        assert len(times) >= min(20, rate * 2)

    def test_says_that_there_is_more_in_a_moment(self, deliver, endpoint):
        deliver(3)
        set_on(endpoint, rate_limit=1)
        claimed = queue.claim(10, roomy())
        assert (len(claimed.taken), claimed.soon_more) == (1, True)

    def test_none_means_none(self, deliver, endpoint):
        deliver(8)
        claimed = queue.claim(10, roomy())
        assert (len(claimed.taken), claimed.soon_more) == (8, False)
        endpoint.refresh_from_db()
        assert endpoint.paced_until is None

    def test_nobody_else_waits(self, deliver, endpoint, customer):
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(5)
        set_on(endpoint, rate_limit=1)
        taken = claim()
        assert sum(item.delivery.endpoint_id == endpoint.pk for item in taken) == 1
        assert len(taken) == 6


class TestOrder:
    @pytest.fixture
    def ordered(self, endpoint):
        set_on(endpoint, ordered=True)
        return endpoint

    @pytest.fixture
    def second_ticket(self, ordered, customer, agent):
        return Ticket.objects.create(title="Another", description="x", requester=customer, assignee=agent)

    def test_one_of_a_ticket_at_a_time_by_position(self, deliver, ordered):
        deliver(4)
        # The ids say one order, the positions (which is how they became visible) another.
        number_events()
        events = list(Event.objects.filter(entity="comment").order_by("id"))
        base = 10_000
        for place, event in zip((3, 1, 4, 2), events, strict=True):
            Event.objects.filter(pk=event.pk).update(position=base + place)
        arrived = []
        while taken := claim():
            assert len(taken) == 1
            assert claim() == []
            arrived.append(taken[0].delivery.notification.event.position - base)
            record(taken, OK)
        assert arrived == [1, 2, 3, 4]

    def test_tickets_do_not_wait_for_each_other(self, deliver, ordered, second_ticket):
        deliver(2)
        deliver(2, on=second_ticket)
        assert {item.delivery.ticket_id for item in claim()} == set(Ticket.objects.values_list("pk", flat=True))

    def test_one_that_failed_holds_up_its_ticket_until_it_is_given_up(self, deliver, ordered):
        first, second = deliver(2)
        record(claim(), DOWN)
        assert claim() == []
        WebhookDelivery.objects.filter(pk=first.pk).update(attempt_count=9)
        make_due()
        record(claim(), DOWN)
        first.refresh_from_db()
        assert first.state == "exhausted"
        assert [item.delivery.pk for item in claim()] == [second.pk]

    def test_one_that_is_sent_again_waits_while_a_later_one_is_out(self, deliver, ordered):
        first, second = deliver(2)
        WebhookDelivery.objects.filter(pk=first.pk).update(state="exhausted", next_attempt_at=None)
        taken = claim()
        assert [item.delivery.pk for item in taken] == [second.pk]
        queue.redeliver(WebhookDelivery.objects.filter(pk=first.pk), by_hand=True)
        assert claim() == []
        record(taken, OK)
        assert [item.delivery.pk for item in claim()] == [first.pk]

    @pytest.mark.parametrize("state", ["cancelled", "exhausted", "delivered"])
    def test_what_is_done_holds_up_nobody(self, deliver, ordered, state):
        first, second = deliver(2)
        WebhookDelivery.objects.filter(pk=first.pk).update(state=state, next_attempt_at=None)
        assert [item.delivery.pk for item in claim()] == [second.pk]

    def test_what_is_held_holds_up_its_ticket_too(self, deliver, ordered):
        first, _ = deliver(2)
        WebhookDelivery.objects.filter(pk=first.pk).update(state="held", next_attempt_at=None)
        set_on(ordered, holding=True)
        assert claim() == []
        assert gates.release(timezone.now()) == 1
        assert [item.delivery.pk for item in claim()] == [first.pk]

    def test_events_without_a_position_get_one_first(self, deliver, ordered):
        deliver(2)
        assert Event.objects.filter(position=None).exists()
        assert len(claim()) == 1
        assert not Event.objects.filter(position=None).exists()

    def test_what_could_be_taken_without_one_is_not_forgotten_over_it(self, deliver, ordered, customer):
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(2)
        claimed = queue.claim(10, roomy())
        assert claimed.soon_more
        assert len(claimed.taken) == states().count("sending") == 2
        assert len(claim()) == 1

    def test_one_that_waits_for_another_keeps_no_worker_looking(self, deliver, ordered):
        """A rate limit lets more through in a moment; a ticket whose first webhook is tried again tomorrow does not."""
        set_on(ordered, rate_limit=10)
        deliver(2)
        record(claim(), DOWN)
        found = queue.claim(10, roomy())
        assert (found.taken, found.soon_more) == ([], False)

    def test_what_is_about_no_ticket_is_in_no_order(self, deliver, ordered):
        deliver(3)
        WebhookDelivery.objects.update(ticket_id=None)
        assert len(claim()) == 3

    def test_an_endpoint_without_order_waits_for_nothing(self, deliver):
        deliver(3)
        assert len(claim()) == 3

    def test_a_long_backlog_is_worked_off_in_order_after_the_breaker_opened(self, deliver, ordered, second_ticket):
        deliver(8)
        deliver(8, on=second_ticket)
        set_on(ordered, breaker="open", breaker_until=timezone.now() + timedelta(hours=1))
        while claim(100):
            pass
        assert states() == ["held"] * 16
        set_on(ordered, breaker="closed")
        arrived: dict = {}
        for _ in range(20):
            gates.release(timezone.now())
            for item in (taken := claim()):
                arrived.setdefault(item.delivery.ticket_id, []).append(item.delivery.notification.event.position)
            record(taken, OK)
        assert [len(positions) for positions in arrived.values()] == [8, 8]
        assert all(positions == sorted(positions) for positions in arrived.values())

    def test_nobody_else_waits_behind_a_ticket_that_waits(self, deliver, ordered, second_ticket, customer, monkeypatch):
        monkeypatch.setattr(queue, "CANDIDATES", 4)
        first = deliver(10)[0]
        WebhookDelivery.objects.filter(pk=first.pk).update(
            state="retrying", attempt_count=4, next_attempt_at=timezone.now() + timedelta(hours=5)
        )
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(1)
        deliver(1, on=second_ticket)
        taken = [item.delivery for item in claim(1) + claim(1) + claim(1)]
        assert sorted(delivery.endpoint_id == ordered.pk for delivery in taken) == [False, False, True]
        assert [delivery.ticket_id for delivery in taken if delivery.endpoint_id == ordered.pk] == [second_ticket.pk]
        assert claim() == []

    def test_the_probe_is_of_a_ticket_that_does_not_wait(self, deliver, ordered, second_ticket, monkeypatch):
        monkeypatch.setattr(gates, "OLDEST", 3)
        first = deliver(6)[0]
        deliver(1, on=second_ticket)
        number_events()
        WebhookDelivery.objects.update(state="held", next_attempt_at=None)
        in_hours = timezone.now() + timedelta(hours=5)
        WebhookDelivery.objects.filter(pk=first.pk).update(state="retrying", attempt_count=4, next_attempt_at=in_hours)
        set_on(ordered, holding=True, breaker="half_open", breaker_limit=1)
        assert gates.release(timezone.now()) == 1
        (probe,) = claim()
        assert probe.delivery.ticket_id == second_ticket.pk
        record([probe], DOWN)
        # Only what waits for `first` is left: nothing is released to be held again at once, and nothing forgotten.
        set_on(ordered, breaker="half_open", breaker_limit=1)
        assert gates.release(timezone.now()) == 0
        assert WebhookEndpoint.objects.get(pk=ordered.pk).holding
        WebhookDelivery.objects.filter(pk=first.pk).update(next_attempt_at=timezone.now())
        assert [item.delivery.pk for item in claim()] == [first.pk]


def test_slow_endpoints_without_a_slot_hide_nobody(deliver, endpoint, customer, monkeypatch):
    monkeypatch.setattr(queue, "CANDIDATES", 4)
    deliver(6)
    healthy, _ = endpoints.create(customer, "http://127.0.0.1:9/b")
    deliver(1)
    lanes = roomy()
    hanging = uuid4()
    for slow in (endpoint.pk, hanging):
        lanes._remember(lanes._endpoint(slow), Pace.HANGING)
    for number in range(lanes.slow):
        lanes.reserve(number, hanging)
        lanes.start(number)
    assert [item.delivery.endpoint_id for item in queue.claim(10, lanes).taken] == [healthy.pk]


def test_a_ticket_is_noted_with_its_deliveries(deliver, ticket):
    assert {delivery.ticket_id for delivery in deliver(2)} == {ticket.pk}


class TestStopped:
    """Whatever its backlog, an endpoint stops at once, and in a few statements."""

    STOPS = {
        "paused": (endpoints.pause, "held"),
        "disabled": (lambda endpoint: endpoints.disable(endpoint, "It answered 410."), "held"),
        "deleted": (endpoints.delete, "cancelled"),
    }

    @pytest.fixture(autouse=True)
    def _small_slices(self, monkeypatch):
        monkeypatch.setattr(gates, "SLICE", 3)

    @pytest.mark.parametrize("how", STOPS)
    def test_a_slice_at_once_and_the_rest_by_the_claim(self, deliver, endpoint, customer, how):
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(8)
        stop, state = self.STOPS[how]
        stop(endpoint)
        ours = WebhookDelivery.objects.filter(endpoint=endpoint)
        assert ours.filter(state=state).count() == 3
        assert {item.delivery.endpoint.owner for item in claim(100)} == {customer}
        assert set(ours.values_list("state", "state_reason", "next_attempt_at")) == {
            (state, f"The endpoint {'was' if how == 'deleted' else 'is'} {how}.", None)
        }

    def test_a_claim_sees_what_is_behind_a_stopped_backlog(self, deliver, endpoint, customer, monkeypatch):
        deliver(8)
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(1)
        endpoints.pause(endpoint)
        monkeypatch.setattr(queue, "FIRST_LOOK", 0)
        monkeypatch.setattr(queue, "CANDIDATES", 4)
        assert [item.delivery.endpoint.owner for item in claim(2)] == [customer]

    @pytest.mark.parametrize("ordered", [False, True])
    def test_a_test_goes_out_although_it_is_paused(self, deliver, endpoint, ordered):
        deliver(2)
        set_on(endpoint, ordered=ordered)
        endpoints.pause(endpoint)
        record_test(endpoint, examples.of("webhook_test"), uuid4(), timezone.now())
        WebhookDelivery.objects.filter(notification__event__action="test").update(
            state="retrying", lease_token=None, lease_until=None, next_attempt_at=timezone.now()
        )
        make_due()
        assert [item.delivery.notification.event.action for item in claim()] == ["test"]

    def test_what_a_deleted_one_had_held_is_cancelled_in_slices(self, deliver, endpoint):
        deliver(8)
        endpoints.pause(endpoint)
        claim()
        assert states() == ["held"] * 8
        endpoints.delete(endpoint)
        assert (gates.repair(), states().count("cancelled")) == (True, 6)
        assert (gates.repair(), states()) == (False, ["cancelled"] * 8)

    def test_resuming_writes_no_delivery(self, deliver, endpoint, django_capture_on_commit_callbacks):
        deliver(8)
        endpoints.pause(endpoint)
        claim()
        with django_capture_on_commit_callbacks() as bells:
            assert endpoints.resume(endpoint) == 8
        assert (len(bells), states()) == (1, ["held"] * 8)
        assert gates.release(timezone.now()) == 8
        assert len(claim()) == 8
