"""The breaker: when it opens, how it comes back, and what becomes of the deliveries meanwhile."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from notifications.models import Event, Notification, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import breaker, endpoints, gates, queue
from tests.webhooks.deliveries import DOWN, OK, answered, claim, make_due, record, roomy, states

NOW = timezone.now()


def no_jitter(low, high):
    return (low + high) / 2


def failing(*exchanges) -> WebhookEndpoint:
    endpoint = WebhookEndpoint()
    for exchange in exchanges:
        breaker.note(endpoint, exchange, NOW, no_jitter)
    return endpoint


def open_seconds(endpoint: WebhookEndpoint) -> float:
    return (endpoint.breaker_until - NOW).total_seconds()


class TestOpening:
    @pytest.mark.parametrize("exchange", [DOWN, answered(500), answered(503), answered(429)])
    def test_five_in_a_row(self, exchange):
        assert failing(*[exchange] * 4).breaker == "closed"
        assert failing(*[exchange] * 5).breaker == "open"

    @pytest.mark.parametrize("status", [301, 401, 404, 422])
    def test_a_receiver_that_answers_is_not_down(self, status):
        endpoint = failing(*[answered(status)] * 50)
        assert (endpoint.breaker, endpoint.consecutive_failures) == ("closed", 50)

    @pytest.mark.parametrize("between", [OK, answered(404)])
    def test_not_when_it_answers_in_between(self, between):
        assert failing(*[DOWN] * 4, between, *[DOWN] * 4).breaker == "closed"

    def test_a_minute_doubling_to_an_hour(self):
        endpoint = failing(*[DOWN] * 5)
        lengths = [open_seconds(endpoint)]
        for _ in range(8):
            endpoint.breaker, endpoint.breaker_limit = "half_open", 1
            breaker.note(endpoint, DOWN, NOW, no_jitter)
            lengths.append(open_seconds(endpoint))
        assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]

    def test_with_jitter(self):
        lengths = set()
        for _ in range(50):
            endpoint = WebhookEndpoint()
            for _ in range(5):
                breaker.note(endpoint, DOWN, NOW)
            lengths.add(open_seconds(endpoint))
        assert len(lengths) > 40
        assert min(lengths) >= 48
        assert max(lengths) <= 72

    @pytest.mark.parametrize(("asked", "given"), [(10, 60), (90, 90), (9999, 120)])
    def test_retry_after_is_honoured_up_to_twice_the_plan(self, asked, given):
        assert open_seconds(failing(*[answered(503, retry_after=asked)] * 5)) == given

    def test_failures_while_it_is_open_change_nothing(self):
        endpoint = failing(*[DOWN] * 8)
        assert (endpoint.breaker_openings, open_seconds(endpoint)) == (1, 60)


class TestComingBack:
    def test_one_then_two_then_four_then_all(self):
        endpoint = failing(*[DOWN] * 5)
        endpoint.breaker = "half_open"
        limits = [endpoint.breaker_limit]
        while endpoint.breaker == "half_open":
            breaker.note(endpoint, OK, NOW)
            limits.append(endpoint.breaker_limit)
        assert limits == [1, 2, 4, 1]
        assert (endpoint.breaker, endpoint.breaker_openings, endpoint.breaker_until) == ("closed", 0, None)

    @pytest.mark.parametrize("limit", breaker.RAMP)
    def test_a_failure_on_the_way_opens_it_for_longer(self, limit):
        endpoint = failing(*[DOWN] * 5)
        endpoint.breaker, endpoint.breaker_limit = "half_open", limit
        breaker.note(endpoint, DOWN, NOW, no_jitter)
        assert (endpoint.breaker, open_seconds(endpoint), endpoint.breaker_limit) == ("open", 120, 1)

    def test_a_test_that_arrives_while_it_is_open_is_as_good_as_the_probe(self):
        endpoint = failing(*[DOWN] * 5, OK)
        assert (endpoint.breaker, endpoint.breaker_limit) == ("half_open", 2)


@pytest.fixture
def opened(deliver, endpoint):
    """The endpoint with its breaker open after five failures, and twenty deliveries that have not been tried."""
    deliver(25)
    record(claim(5), DOWN)
    endpoint.refresh_from_db()
    assert endpoint.breaker == "open"
    return endpoint


def time_is_over(endpoint):
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(breaker_until=timezone.now() - timedelta(seconds=1))


def untried():
    return WebhookDelivery.objects.filter(attempt_count=0)


@pytest.mark.django_db
class TestDeliveries:
    def test_are_held_and_use_up_no_attempt(self, opened):
        assert claim() == []
        assert set(untried().values_list("state", "state_reason", "next_attempt_at")) == {
            ("held", "The endpoint is failing: held until it answers again.", None)
        }
        assert untried().count() == 20
        make_due()
        assert claim() == []
        assert WebhookDelivery.objects.filter(attempt_count__gt=1).count() == 0
        assert set(states()) == {"held"}

    def test_nothing_goes_before_the_time_is_over(self, opened):
        claim()
        assert gates.release(timezone.now()) == 0
        assert claim() == []

    def test_one_finds_out(self, opened):
        claim()
        time_is_over(opened)
        assert gates.release(timezone.now()) == 1
        (probe,) = claim()
        assert gates.release(timezone.now()) == 0
        assert claim() == []
        record([probe], DOWN)
        opened.refresh_from_db()
        assert (opened.breaker, opened.breaker_openings) == ("open", 2)
        assert claim() == []
        assert gates.release(timezone.now()) == 0

    def test_what_comes_meanwhile_does_not_go_past_the_probe(self, opened, deliver):
        claim()
        time_is_over(opened)
        gates.release(timezone.now())
        assert len(claim()) == 1
        deliver(3)
        assert claim() == []
        assert WebhookDelivery.objects.filter(state="pending").count() == 0

    def test_a_probe_that_arrives_brings_the_rest_back(self, opened):
        claim()
        time_is_over(opened)
        gates.release(timezone.now())
        record(claim(), OK)
        gates.release(timezone.now())
        assert "held" not in states()
        sizes = []
        while taken := claim(20, roomy(per_endpoint=20)):
            sizes.append(len(taken))
            record(taken[:1], OK)
            queue.give_back(taken[1:])
        assert sizes[:3] == [2, 4, 17]
        opened.refresh_from_db()
        assert (opened.breaker, opened.holding) == ("closed", False)

    def test_what_had_been_tried_says_so_when_it_comes_back(self, opened):
        make_due()
        claim()
        assert endpoints.resume(opened) == 25
        gates.release(timezone.now())
        assert states() == ["pending"] * 20 + ["retrying"] * 5

    def test_a_probe_whose_worker_dies_is_made_by_another(self, opened):
        claim()
        time_is_over(opened)
        gates.release(timezone.now())
        assert len(claim()) == 1
        WebhookDelivery.objects.filter(state="sending").update(lease_until=timezone.now() - timedelta(seconds=1))
        assert queue.give_back_expired() == 1
        assert len(claim()) == 1

    def test_a_probe_that_must_not_be_sent_makes_way_for_another(self, opened):
        claim()
        time_is_over(opened)
        gates.release(timezone.now())
        (probe,) = claim()
        WebhookDelivery.objects.filter(pk=probe.delivery.pk).update(state="cancelled", lease_token=None)
        assert gates.release(timezone.now()) == 1
        assert len(claim()) == 1

    def test_the_ramp_counts_what_other_workers_have_out(self, opened):
        WebhookEndpoint.objects.update(breaker="half_open", breaker_limit=4)
        assert [len(claim(3)), len(claim(3)), len(claim(3))] == [3, 1, 0]

    def test_held_ones_that_nobody_would_release_are_found(self, deliver, endpoint):
        deliver(2)
        WebhookDelivery.objects.update(state="held", next_attempt_at=None)  # the change read "paused" and came late
        assert gates.release(timezone.now()) == 0
        gates.repair()
        assert gates.release(timezone.now()) == 2
        assert states() == ["pending", "pending"]

    def test_paused_ones_stay_held(self, deliver, endpoint):
        deliver(2)
        endpoints.pause(endpoint)
        gates.repair()
        assert gates.release(timezone.now()) == 0
        assert states() == ["held", "held"]


@pytest.mark.django_db(transaction=True)
def test_one_probe_in_all_workers_together(opened):
    claim()
    time_is_over(opened)
    WebhookDelivery.objects.update(state="pending", next_attempt_at=timezone.now())  # were they all due at once
    gates.release(timezone.now())
    lanes = [roomy() for _ in range(6)]
    start, probes = threading.Barrier(len(lanes)), []

    def work(lanes):
        try:
            start.wait()
            probes.extend(claim(10, lanes))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(probes) <= 1
    assert len(probes + claim()) == 1  # all of them may have met each other's locks


@pytest.mark.django_db
class TestBacklogs:
    def test_one_endpoints_backlog_hides_nobody(self, deliver, endpoint, customer, ticket, admin, other_agent):
        deliver(1)
        template = WebhookDelivery.objects.get()
        _multiply(template, gates.MANY + 400)
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(1)
        mine = WebhookDelivery.objects.get(endpoint__owner=customer).pk
        taken = claim(50)
        while mine not in {item.delivery.pk for item in taken}:
            assert len(taken) < 50, "there were places left, and the other's was not seen"
            more = claim(50 - len(taken), _holding(taken))
            if not more:
                break
            taken += more
        assert mine in {item.delivery.pk for item in taken}
        endpoint.refresh_from_db()
        assert endpoint.holding
        assert WebhookDelivery.objects.filter(state="held").exists()

    def test_nor_does_one_whose_breaker_is_open(self, deliver, endpoint, customer):
        """More of them than a claim looks at, and all of them before the other's."""
        deliver(1)
        _multiply(WebhookDelivery.objects.get(), 2 * queue.CANDIDATES)
        WebhookEndpoint.objects.update(breaker="open", breaker_until=timezone.now() + timedelta(hours=1))
        endpoints.create(customer, "http://127.0.0.1:9/b")
        deliver(1)
        taken = claim(10)
        assert [item.delivery.endpoint.owner for item in taken] == [customer]

    def test_what_is_held_behind_others_comes_when_there_is_room(self, deliver, endpoint):
        deliver(1)
        _multiply(WebhookDelivery.objects.get(), gates.MANY + 400)
        arrived, rounds = 0, 0
        while taken := claim(100, roomy(per_endpoint=100)) or gates.release(timezone.now()):
            if isinstance(taken, list):
                record(taken, OK)
                arrived += len(taken)
            rounds += 1
            assert rounds < 100
        assert arrived == gates.MANY + 401
        assert set(states()) == {"delivered"}


def _holding(taken):
    lanes = roomy()
    for item in taken:
        lanes.reserve(item, item.delivery.endpoint_id)
    return lanes


def _multiply(delivery, count):
    """So many more deliveries to the same endpoint."""
    event, notification = delivery.notification.event, delivery.notification
    events = Event.objects.bulk_create(
        [
            Event(
                entity=event.entity,
                action="created",
                entity_id=event.entity_id,
                visibility=event.visibility,
                person_id=event.person_id,
                payload_staff="{}",
            )
            for _ in range(count)
        ]
    )
    notifications = Notification.objects.bulk_create(
        [
            Notification(
                event=event,
                recipient=notification.recipient,
                type=notification.type,
                message="…",
                related_type="comment",
                related_id=event.entity_id,
            )
            for event in events
        ]
    )
    WebhookDelivery.objects.bulk_create(
        [WebhookDelivery(endpoint_id=delivery.endpoint_id, notification=each) for each in notifications]
    )
