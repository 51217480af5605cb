"""Getting back what was missed: everything once, at its rate, behind what is new, whoever is killed meanwhile."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import (
    DeliveryState,
    Event,
    Notification,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookRecovery,
)
from notifications.webhooks import endpoints, queue, recovery
from notifications.webhooks.recovery import RecoveryRefused, Span
from tests.webhooks.deliveries import claim, roomy

pytestmark = pytest.mark.django_db

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def endpoint(customer) -> WebhookEndpoint:
    return endpoints.create(customer, URL)[0]


@pytest.fixture
def missed(ticket, endpoint):
    """`missed(250)`: deliveries to `endpoint` (or `to=`) in one state, a second apart, the last of them just now."""

    def missed(count: int, state: str = "exhausted", to: WebhookEndpoint | None = None) -> list[WebhookDelivery]:
        to, event, now = to or endpoint, Event.objects.filter(entity="ticket").latest("pk"), timezone.now()
        events = Event.objects.bulk_create(
            [
                Event(
                    entity="ticket", action="updated", entity_id=event.entity_id, ticket_id=event.ticket_id,
                    visibility=event.visibility, person_id=event.person_id, payload_staff="{}", payload_customer="{}",
                )
                for _ in range(count)
            ]
        )  # fmt: skip
        told = Notification.objects.bulk_create(
            [
                Notification(
                    event=event, recipient=to.owner, type="ticket_updated", message="x", related_type="ticket",
                    related_id=event.entity_id,
                )
                for event in events
            ]
        )  # fmt: skip
        return WebhookDelivery.objects.bulk_create(
            [
                WebhookDelivery(
                    endpoint=to, notification=notification, state=state, attempt_count=10, next_attempt_at=None,
                    created_at=now - timedelta(seconds=count - number),
                )
                for number, notification in enumerate(told)
            ]
        )  # fmt: skip

    return missed


@pytest.fixture
def later(monkeypatch):
    """Time stands still and passes when it is told to: `later(seconds=5)`."""
    moment = timezone.now()

    def later(**span: float) -> None:
        nonlocal moment
        moment += timedelta(**span)

    monkeypatch.setattr(timezone, "now", lambda: moment)
    return later


def span(**options) -> Span:
    return Span(timezone.now() - timedelta(days=1), timezone.now() + timedelta(seconds=1), **options)


def pending() -> int:
    return WebhookDelivery.objects.filter(state="pending").count()


def test_a_small_one_is_released_at_once(missed, endpoint, customer):
    missed(100)
    begun = recovery.start(endpoint, span(), requested_by=customer)
    assert (begun.state, begun.total, begun.released, begun.requested_by) == ("finished", 100, 100, customer)
    assert begun.finished_at
    delivery = WebhookDelivery.objects.first()
    assert (delivery.state, delivery.attempt_count, delivery.priority) == ("pending", 0, 2)
    assert delivery.next_attempt_at <= timezone.now()


def test_a_large_one_goes_at_its_rate_the_oldest_first(missed, endpoint, later):
    made = missed(250)
    begun = recovery.start(endpoint, span(), per_minute=600)
    assert (begun.state, begun.total, begun.released, begun.remaining, begun.seconds_left) == (
        "running", 250, 100, 150, 15,
    )  # fmt: skip
    assert set(WebhookDelivery.objects.filter(state="pending")) == set(made[:100])
    assert recovery.release_due() == 0  # no time has passed
    for seconds, total in ((5, 150), (0, 150), (5, 200), (5, 250)):
        later(seconds=seconds)
        recovery.release_due()
        assert pending() == total
    begun.refresh_from_db()
    assert (begun.state, begun.released, begun.remaining, pending()) == ("finished", 250, 0, 250)


def test_a_rate_below_one_a_sweep_is_kept_too(missed, endpoint, later):
    missed(130)
    recovery.start(endpoint, span(), per_minute=7)
    for _ in range(24):  # two minutes of sweeps
        later(seconds=5)
        recovery.release_due()
    assert pending() == pytest.approx(100 + 14, abs=1)


def test_a_worker_that_comes_back_late_makes_up_for_little(missed, endpoint, later):
    missed(1000)
    recovery.start(endpoint, span(), per_minute=600)
    later(hours=1)
    assert recovery.release_due() == pytest.approx(100, abs=1)  # ten seconds of it


class Killed(BaseException):
    """As SIGKILL would: nothing gets to handle it."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["before", "after"])
def test_killed_in_the_middle_of_a_slice_nothing_is_lost_and_nothing_comes_twice(
    missed, endpoint, later, monkeypatch, step
):
    missed(500)
    recovery.start(endpoint, span(), per_minute=600)
    redeliver, released = queue.redeliver, []

    def killed(deliveries, **how):
        if step == "after":
            redeliver(deliveries, **how)
        raise Killed

    def watched(deliveries, **how):
        released.extend(deliveries.values_list("pk", flat=True))
        return redeliver(deliveries, **how)

    for _ in range(3):
        later(seconds=5)
        monkeypatch.setattr(queue, "redeliver", killed)
        with pytest.raises(Killed):
            recovery.release_due()
        assert pending() == 100 + len(released)
        monkeypatch.setattr(queue, "redeliver", watched)
        later(seconds=5)
        recovery.release_due()
    for _ in range(3):
        later(seconds=10)
        recovery.release_due()
    assert pending() == 500
    assert len(released) == len(set(released)) == 400


def test_what_fails_again_is_not_released_a_second_time(missed, endpoint, later):
    missed(150)
    begun = recovery.start(endpoint, span(), per_minute=600)
    WebhookDelivery.objects.filter(state="pending").update(state="exhausted")
    later(minutes=1)
    recovery.release_due()
    begun.refresh_from_db()
    assert (begun.state, begun.released, pending()) == ("finished", 150, 50)


def test_what_arrived_meanwhile_is_not_sent_again(missed, endpoint, later):
    made = missed(150, "retrying")
    begun = recovery.start(endpoint, span(), per_minute=600)
    WebhookDelivery.objects.filter(pk__in=[it.pk for it in made[100:120]]).update(state="delivered")
    WebhookDelivery.objects.filter(pk=made[120].pk).update(state="sending")
    later(minutes=1)
    recovery.release_due()
    begun.refresh_from_db()
    assert (begun.state, begun.released) == ("finished", 129)
    assert WebhookDelivery.objects.filter(state="delivered").count() == 20


def test_deliveries_of_one_moment_are_told_apart(missed, endpoint, later):
    missed(250)
    WebhookDelivery.objects.update(created_at=timezone.now())
    recovery.start(endpoint, span(), per_minute=600)
    later(minutes=1)
    recovery.release_due()
    later(minutes=1)
    recovery.release_due()
    assert pending() == 250


def test_others_are_left_alone(missed, endpoint, agent):
    other = endpoints.create(agent, URL)[0]
    theirs, young, mine = missed(3, to=other), missed(2), missed(2)
    WebhookDelivery.objects.filter(pk__in=[it.pk for it in young]).update(
        created_at=timezone.now() + timedelta(hours=1)
    )
    delivered = missed(1, "delivered") + missed(1, "cancelled")
    assert recovery.start(endpoint, span()).released == 2
    assert set(WebhookDelivery.objects.filter(state="pending")) == set(mine)
    assert recovery.start(endpoint, span(states=("delivered", "cancelled"))).released == 2
    assert set(WebhookDelivery.objects.filter(state="pending")) == {*mine, *delivered}
    assert not {it.pk for it in theirs} & set(
        WebhookDelivery.objects.filter(state="pending").values_list("pk", flat=True)
    )


def test_one_at_a_time_for_an_endpoint(missed, endpoint):
    missed(150)
    begun = recovery.start(endpoint, span())
    with pytest.raises(RecoveryRefused, match=f"Recovery {begun.pk} .* 100 of 150 are released") as refusal:
        recovery.start(endpoint, span())
    assert refusal.value.code == "recovery_running"
    assert recovery.cancel(begun, "Carla")
    assert not recovery.cancel(begun, "Carla")
    begun.refresh_from_db()
    assert (begun.state, begun.state_reason) == ("cancelled", "Cancelled by Carla.")
    assert recovery.start(endpoint, span()).total == 50


@pytest.mark.parametrize(
    ("stop", "state"),
    [
        (endpoints.pause, "paused"),
        (lambda endpoint: endpoints.disable(endpoint, "It answered 410."), "disabled"),
        (endpoints.delete, "deleted"),
    ],
    ids=["paused", "disabled", "deleted"],
)
def test_an_endpoint_that_stops_ends_its_recovery(missed, endpoint, later, stop, state):
    missed(150)
    begun = recovery.start(endpoint, span())
    stop(endpoint)
    later(minutes=1)
    assert recovery.release_due() == 0
    begun.refresh_from_db()
    assert (begun.state, begun.state_reason) == ("cancelled", f"The endpoint was {state} meanwhile.")
    assert pending() == 0
    with pytest.raises(RecoveryRefused, match=state):
        recovery.start(endpoint, span())


def test_a_recovery_delays_news_by_no_more_than_a_batch(missed, endpoint, ticket, admin, agent):
    """What is claimed next is the live one, although hundreds were due before it; without priorities it is the last."""
    missed(300)
    recovery.start(endpoint, span())
    WebhookDelivery.objects.filter(state="exhausted").update(
        state="pending", priority=2, next_attempt_at=timezone.now()
    )
    with acting_as(admin):
        Comment(ticket=ticket, author=admin, content="News").post()
    live = WebhookDelivery.objects.latest("pk")
    assert (live.priority, pending()) == (0, 301)
    batch = claim(50, roomy(1000))
    assert batch[0].delivery == live
    assert len(batch) == 50
    # The control: the same without a priority.
    queue.give_back(batch)
    WebhookDelivery.objects.update(priority=0)
    WebhookDelivery.objects.filter(pk=live.pk).update(next_attempt_at=timezone.now())
    assert live not in [claimed.delivery for claimed in claim(50, roomy(1000))]


def test_rights_are_checked_when_it_is_sent(missed, endpoint, ticket, other_customer):
    missed(3)
    ticket.requester = other_customer
    ticket.save()
    assert recovery.start(endpoint, span()).released == 3
    assert claim(10) == []
    assert set(WebhookDelivery.objects.filter(endpoint=endpoint).values_list("state", flat=True)) == {"cancelled"}


@pytest.mark.parametrize("count", [150, 400])
def test_a_slice_is_four_statements_however_much_there_is(missed, endpoint, later, count):
    missed(count)
    begun = recovery.start(endpoint, span())
    later(seconds=5)
    with CaptureQueriesContext(connection) as captured:
        recovery.release(begun.pk)
    statements = [query["sql"] for query in captured if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN"))]
    assert len(statements) == 4, statements


@pytest.mark.postgresql
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
@pytest.mark.django_db(transaction=True)
def test_two_workers_never_release_the_same(missed, endpoint, later, monkeypatch):
    missed(1100)
    recovery.start(endpoint, span(), per_minute=6000)
    redeliver, released, lock = queue.redeliver, [], threading.Lock()

    def watched(deliveries, **how):
        with lock:
            released.extend(deliveries.values_list("pk", flat=True))
        return redeliver(deliveries, **how)

    monkeypatch.setattr(queue, "redeliver", watched)
    later(seconds=11)
    stumbled = []

    def sweep() -> None:
        try:
            for _ in range(5):
                recovery.release_due()
        except Exception as error:
            stumbled.append(error)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=sweep) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert stumbled == []
    assert released
    assert len(released) == len(set(released))
    assert WebhookRecovery.objects.get().released == 100 + len(released) == pending()


class TestApi:
    @pytest.fixture
    def path(self, endpoint) -> str:
        return f"/api/webhook-endpoints/{endpoint.pk}/recover"

    def test_dry_run_start_watch_and_cancel(self, api, customer, missed, path):
        missed(150)
        missed(1, "cancelled"), missed(2, "sending"), missed(3, "pending"), missed(4, "delivered")
        client = api(customer)
        since = (timezone.now() - timedelta(days=1)).isoformat()
        estimate = client.post(path, {"since": since, "dry_run": True, "per_minute": 300})
        assert estimate.status_code == 200
        assert estimate.json() == {
            "count": 150,
            "per_minute": 300,
            "seconds": 10,
            "left_out": [
                {"reason": "being_sent", "count": 2},
                {"reason": "already_waiting", "count": 3},
                {"reason": "cancelled", "count": 1},
            ],
        }
        assert not WebhookRecovery.objects.exists()
        begun = client.post(path, {"since": since})
        assert begun.status_code == 202
        assert (begun.json()["state"], begun.json()["remaining"], begun.json()["per_minute"]) == ("running", 50, 600)
        one = f"/api/webhook-recoveries/{begun.json()['id']}"
        assert client.get(one).json()["released"] == 100
        again = client.post(path, {"since": since})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "recovery_running")
        assert client.post(path, {"since": since, "dry_run": True}).status_code == 409
        assert client.post(f"{one}/cancel").json()["state"] == "cancelled"
        over = client.post(f"{one}/cancel")
        assert (over.status_code, over.json()["error"]["code"]) == (409, "recovery_over")
        listed = client.get("/api/webhook-recoveries", {"state": "cancelled"}).json()["results"]
        assert [row["id"] for row in listed] == [begun.json()["id"]]
        assert client.get("/api/webhook-recoveries", {"state": "running"}).json()["results"] == []

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "since"),
            ({"since": "yesterday"}, "since"),
            ({"since": "2999-01-01T00:00:00Z"}, "since"),
            ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
            ({"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "until"),
            ({"since": "2020-01-01T00:00:00Z", "states": ["sending"]}, "states.0"),
            ({"since": "2020-01-01T00:00:00Z", "states": []}, "states"),
            ({"since": "2020-01-01T00:00:00Z", "per_minute": 0}, "per_minute"),
            ({"since": "2020-01-01T00:00:00Z", "per_minute": 6001}, "per_minute"),
            ({"since": "2020-01-01T00:00:00Z", "dry_run": "perhaps"}, "dry_run"),
        ],
    )
    def test_nonsense_is_refused_and_changes_nothing(self, api, customer, missed, path, refusal, body, field):
        missed(1)
        refusal(api(customer).post(path, body), 400, "validation_error", field)
        assert not WebhookRecovery.objects.exists()
        assert pending() == 0

    def test_an_endpoint_that_is_not_active_is_refused(self, api, customer, endpoint, path, refusal):
        endpoints.pause(endpoint)
        refusal(api(customer).post(path, {"since": "2020-01-01T00:00:00Z"}), 409, "endpoint_not_active")

    def test_strangers_see_and_stop_nothing(self, api, missed, endpoint, other_customer, agent, admin, path):
        missed(150)
        begun = recovery.start(endpoint, span())
        one = f"/api/webhook-recoveries/{begun.pk}"
        for stranger in (other_customer, agent):
            client = api(stranger)
            assert client.post(path, {"since": "2020-01-01T00:00:00Z"}).status_code == 404
            assert client.get(one).status_code == client.post(f"{one}/cancel").status_code == 404
            assert client.get("/api/webhook-recoveries").json()["results"] == []
        assert api().get(one).status_code == 401
        assert api(admin).get(one).status_code == 200
        begun.refresh_from_db()
        assert begun.is_running

    def test_selected_ones(self, api, customer, missed, endpoint, agent):
        theirs = missed(1, to=endpoints.create(agent, URL)[0])[0]
        chosen, sending, waiting = missed(2), missed(1, "sending")[0], missed(1, "pending")[0]
        unknown = "018f0000-0000-7000-8000-000000000000"
        ids = [*(str(it.pk) for it in (*chosen, sending, waiting, theirs)), unknown, str(chosen[0].pk)]
        expected = {
            "count": 2,
            "left_out": [
                {"id": str(sending.pk), "reason": "being_sent"},
                {"id": str(waiting.pk), "reason": "already_waiting"},
                {"id": str(theirs.pk), "reason": "not_found"},
                {"id": unknown, "reason": "not_found"},
            ],
        }
        client = api(customer)
        assert client.post("/api/webhook-deliveries/redeliver", {"ids": ids, "dry_run": True}).json() == expected
        assert pending() == 1
        assert client.post("/api/webhook-deliveries/redeliver", {"ids": ids}).json() == expected
        assert pending() == 3
        theirs.refresh_from_db()
        assert theirs.state == DeliveryState.EXHAUSTED

    @pytest.mark.parametrize(
        ("ids", "field"),
        [(None, "ids"), ([], "ids"), (["x"], "ids.0"), (["018f0000-0000-7000-8000-000000000000"] * 101, "ids")],
    )
    def test_bad_selections(self, api, customer, refusal, ids, field):
        refusal(api(customer).post("/api/webhook-deliveries/redeliver", {"ids": ids}), 400, "validation_error", field)

    def test_one_that_waits_already_stays_as_it_is(self, api, customer, missed):
        delivery = missed(1, "pending")[0]
        answer = api(customer).post(f"/api/webhook-deliveries/{delivery.pk}/redeliver")
        assert (answer.status_code, answer.json()["state"]) == (200, "pending")
        delivery.refresh_from_db()
        assert delivery.priority == 0
