"""Two workers never send one delivery at the same time; and without what prevents it, they do."""

import threading
import time
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.webhooks import breaker, endpoints, gates, queue
from notifications.webhooks.gates import DUE_STATES
from notifications.webhooks.lanes import Room
from tests.webhooks.deliveries import DOWN, record, roomy

pytestmark = pytest.mark.django_db(transaction=True)

# Long enough for the other to do the same, where nothing makes it wait.
MEETING = 1.0


class Meeting:
    """Where two workers wait for each other after they have read and before they write; not for ever."""

    def __init__(self):
        self._barrier = threading.Barrier(2)
        self.met = False

    def wait(self):
        try:
            self._barrier.wait(MEETING)
            self.met = True
        except threading.BrokenBarrierError:
            pass


def two_workers(claim) -> list[list]:
    """What each of two threads got from `claim(meeting)`."""
    meeting, found = Meeting(), []

    def work():
        try:
            found.append(claim(meeting))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2, "a worker failed"
    return [sorted(ids) for ids in found]


@pytest.fixture
def claim_with_meeting(monkeypatch):
    """The real claim, whose workers meet between its reading and its writing."""
    take, first_time = Room.take, threading.local()

    def take_after_meeting(room, endpoint_id):
        if not hasattr(first_time, "over"):
            first_time.over = True
            room.meeting.wait()
        return take(room, endpoint_id)

    monkeypatch.setattr(Room, "take", take_after_meeting)

    def claim(meeting):
        monkeypatch.setattr(Room, "meeting", meeting, raising=False)
        return [item.delivery.pk for item in queue.claim(4, roomy()).taken]

    return claim


def test_two_claims_at_the_same_moment_share_nothing(deliver, claim_with_meeting):
    deliver(6)
    first, second = two_workers(claim_with_meeting)
    assert set(first).isdisjoint(second)
    left = [item.delivery.pk for item in queue.claim(10, roomy()).taken]
    assert len(first + second + left) == len({*first, *second, *left}) == 6


def test_control_reading_and_then_writing_gives_one_delivery_to_both(deliver):
    """A claim with neither lock nor condition: what the test above must be able to see."""
    deliver(6)

    def claim(meeting):
        lease = uuid4()
        due = WebhookDelivery.objects.filter(state__in=DUE_STATES, next_attempt_at__lte=timezone.now())
        ids = list(due.order_by("priority", "next_attempt_at").values_list("pk", flat=True)[:4])
        meeting.wait()
        WebhookDelivery.objects.filter(pk__in=ids).update(state="sending", lease_token=lease)
        return ids

    first, second = two_workers(claim)
    assert set(first) & set(second)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer, whose lock is not a row's")
class TestWithoutTheLock:
    """The condition of the UPDATE is a compare-and-swap: it holds by itself if a lock is passed over."""

    @pytest.fixture(autouse=True)
    def taken(self, monkeypatch):
        """How many deliveries each claim made its own."""
        taken, update = [], QuerySet.update

        def counted(rows, **values):
            count = update(rows, **values)
            if values.get("state") == "sending":
                taken.append(count)
            return count

        monkeypatch.setattr(QuerySet, "update", counted)
        monkeypatch.setattr(QuerySet, "select_for_update", lambda rows, **options: rows)
        return taken

    def test_the_condition_alone_is_enough(self, deliver, claim_with_meeting, taken):
        deliver(6)
        first, second = two_workers(claim_with_meeting)
        assert len(first + second) == len({*first, *second}) == sum(taken) == 4

    def test_control_without_the_condition_both_take_the_same(self, deliver, claim_with_meeting, taken, monkeypatch):
        monkeypatch.setattr(queue, "DUE_STATES", (*DUE_STATES, "sending"))
        deliver(6)
        two_workers(claim_with_meeting)
        assert taken == [4, 4]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
def test_a_change_that_writes_deliveries_never_meets_a_worker_in_a_deadlock(deliver, endpoint, customer):
    """A commit refers to endpoints in the order of its rows; a worker locks them by id, and waits for some."""
    later, _ = endpoints.create(customer, "http://127.0.0.1:9/b")
    deliver(1)
    taken = queue.claim(10, roomy()).taken
    told = dict(WebhookDelivery.objects.values_list("endpoint_id", "notification_id"))
    paused, errors = threading.Event(), []

    def pause():
        with transaction.atomic():
            endpoints.pause(WebhookEndpoint.objects.get(pk=later.pk))
            paused.wait(5)

    def work():
        record(taken, DOWN)

    def change():
        rows = [(later.pk, told[endpoint.pk]), (endpoint.pk, told[later.pk])]
        WebhookDelivery.objects.bulk_create(WebhookDelivery(endpoint_id=e, notification_id=n) for e, n in rows)

    def run(act):
        try:
            act()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[act]) for act in (pause, work, change)]
    for thread in threads:
        thread.start()
        time.sleep(0.3)  # until it waits
    paused.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert WebhookDelivery.objects.count() == 4


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
def test_looking_after_breakers_waits_for_nobody_and_misses_nobody(endpoint, customer):
    endpoints.create(customer, "http://127.0.0.1:9/b")
    now = timezone.now()
    WebhookEndpoint.objects.update(breaker="open", breaker_until=now)
    locked, looked = threading.Event(), threading.Event()

    def record_results():
        try:
            with transaction.atomic():
                WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
                locked.set()
                looked.wait(5)
        finally:
            connection.close()

    other = threading.Thread(target=record_results)
    other.start()
    locked.wait(5)
    assert breaker.half_open_due(now) == 1
    assert gates.repair() is False
    looked.set()
    other.join()
    assert (breaker.half_open_due(now), breaker.half_open_due(now)) == (1, 0)
