"""The engine against real receivers on loopback: what is due arrives, signed, whatever other receivers do."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from helpdesk.changes.identifiers import uuid7
from helpdesk.changes.unit import unit
from notifications import expansion
from notifications.models import Event, Priority, ReceivedWebhook, WebhookDelivery
from notifications.numbering import number_events
from notifications.webhooks import endpoints, lanes, queue
from notifications.webhooks.engine import PATIENCE, Engine
from notifications.webhooks.http import Exchange
from notifications.webhooks.lanes import Lanes
from notifications.webhooks.outcomes import Result
from tests.webhooks.receiver import OK, Receiver, answering, then

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def comment(ticket, admin):
    """Write comments that notify the ticket's people."""

    def comment(count=1):
        with acting_as(admin), unit():
            for number in range(count):
                Comment(ticket=ticket, author=admin, content=f"Comment {number} – ünïcödé").post()

    return comment


@pytest.fixture
def engine():
    return Engine(concurrency=8, per_endpoint=4, linger=0)


def running(engine: Engine) -> threading.Thread:
    """The engine at work in a thread, which gives its database connection back."""

    def run():
        try:
            engine.run()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)  # in SQLite's memory a reader keeps the writer away


def parts(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}, body


def states():
    return sorted(WebhookDelivery.objects.values_list("state", flat=True))


def test_delivers_the_seeds_body_signed(comment, customer, engine):
    with Receiver(answering(OK)) as receiver:
        _, secret = endpoints.create(customer, receiver.url())
        comment()
        assert engine.run() == 1
    headers, body = parts(receiver.requests[0])
    Webhook(secret).verify(body, headers)
    payload = json.loads(body)
    assert list(payload) == ["event", "notification", "data"]
    assert payload["event"] == "notification.created"
    assert list(payload["notification"]) == ["id", "type", "message", "related_id", "related_type", "created_at"]
    assert payload["notification"]["related_id"] == payload["data"]["id"]
    delivery = WebhookDelivery.objects.get()
    assert headers["webhook-id"] == delivery.message_id
    assert headers["content-type"] == "application/json"
    attempt = delivery.attempts.get()
    assert (attempt.status_code, attempt.address, attempt.response_body) == (200, "127.0.0.1", "ok")


def test_a_retry_sends_the_same_bytes_with_a_new_signature_time(comment, customer, engine):
    with Receiver(answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OK)) as receiver:
        _, secret = endpoints.create(customer, receiver.url())
        comment()
        engine.run()
        assert states() == ["retrying"]
        Comment.objects.get().delete_for_good()  # whatever becomes of the comment, the body is what it was
        queue.redeliver(WebhookDelivery.objects.all(), by_hand=True)
        time.sleep(1)  # seconds are what the header counts in
        engine.run()
    (first, first_body), (second, second_body) = map(parts, receiver.requests)
    assert first_body == second_body
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    Webhook(secret).verify(second_body, second)
    assert states() == ["delivered"]


def test_tells_the_events_place_in_the_stream_on_every_attempt(comment, customer, engine):
    """Here no publisher has been: the engine gives the event its position itself."""
    with Receiver(answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OK)) as receiver:
        endpoints.create(customer, receiver.url())
        comment(3)
        assert Event.objects.filter(position=None).exists()
        engine.run()
        WebhookDelivery.objects.filter(state="retrying").update(next_attempt_at=timezone.now())
        engine.run()
    told: dict[str, set[str]] = {}
    for headers, _ in map(parts, receiver.requests):
        told.setdefault(headers["webhook-id"], set()).add(headers["helpdesk-sequence"])
    assert len(receiver.requests) == 4
    assert told == {
        delivery.message_id: {str(delivery.notification.event.position)}
        for delivery in WebhookDelivery.objects.select_related("notification__event")
    }
    assert number_events() == 0


def test_a_late_commit_is_not_passed_over_by_what_the_engine_numbers(comment, customer, engine):
    """Positions follow what is committed: ids that come late get later ones, and readers of the cursor see them."""
    late = Event(id=uuid7(), entity="comment", action="created", entity_id=uuid7(), visibility="staff")
    with Receiver(answering(OK)) as receiver:
        endpoints.create(customer, receiver.url())
        comment(2)
        engine.run()
    seen = max(Event.objects.values_list("position", flat=True))
    late.payload_staff = "{}"
    late.save(force_insert=True)  # an older id than those that are numbered
    number_events()
    late.refresh_from_db()
    assert late.position == seen + 1


def test_news_passes_announcements_that_wait_here_already(comment, customer, admin, engine):
    slow, _ = endpoints.create(customer, "http://127.0.0.1:9/announced")
    comment(2)
    WebhookDelivery.objects.update(priority=Priority.ANNOUNCEMENT)
    assert engine._claim() == 2
    other, _ = endpoints.create(customer, "http://127.0.0.1:9/news")
    comment(1)
    WebhookDelivery.objects.filter(endpoint=slow, state="pending").delete()
    assert engine._claim() == 1
    assert [item.delivery.endpoint_id for item in engine._waiting] == [other.pk, slow.pk, slow.pk]
    engine.stop()
    engine.run()
    assert states() == ["pending", "pending", "pending"]


class TestWhileManyAreTold:
    """An announcement's webhooks wait until everybody has the notification. News does not, and nothing waits long."""

    @pytest.fixture
    def announced(self, comment, customer, ticket):
        """A webhook of an announcement and one of a comment, while people are still told of the announcement."""
        endpoints.create(customer, "http://127.0.0.1:9/")
        comment(2)
        first = WebhookDelivery.objects.order_by("id").first()
        WebhookDelivery.objects.filter(pk=first.pk).update(priority=Priority.ANNOUNCEMENT)
        Event.objects.filter(pk=first.notification.event_id).update(expansion_pending=True)
        return first

    def waiting(self, engine: Engine) -> list[int]:
        engine._claim()
        return [item.delivery.priority for item in engine._waiting]

    def test_only_news_is_sent(self, announced, engine):
        assert self.waiting(engine) == [Priority.NEWS]
        assert engine._soon_more

    def test_the_rest_follows_when_all_have_been_told(self, announced, engine):
        Event.objects.update(expansion_pending=False)
        assert self.waiting(engine) == [Priority.NEWS, Priority.ANNOUNCEMENT]

    def test_the_rest_follows_when_it_takes_too_long(self, announced, engine):
        Event.objects.update(occurred_at=timezone.now() - expansion.PRECEDENCE)
        assert self.waiting(engine) == [Priority.NEWS, Priority.ANNOUNCEMENT]


class TestIsolation:
    """Receivers that hang and refuse are there from the first moment, and hold up nobody. Nothing here is a time."""

    BAD = 6
    FAST, SLOW = 8, 32

    @pytest.fixture
    def engine(self):
        return Engine(concurrency=self.FAST, per_endpoint=4, linger=0, slow_concurrency=self.SLOW)

    def test_healthy_deliveries_arrive_while_others_hang(self, comment, customer, engine):
        """More endpoints hang than there are fast slots left beside them, and each has as much to get as the good."""
        with Receiver(answering(OK)) as good, Receiver(then(lambda line: line.hang())) as hanging:
            for number in range(self.BAD):
                endpoints.create(customer, hanging.url(path=f"/hangs/{number}"))
                endpoints.create(customer, f"http://127.0.0.1:9/refuses/{number}")
            healthy, _ = endpoints.create(customer, good.url())
            comment(20)
            thread = running(engine)
            mine = WebhookDelivery.objects.filter(endpoint=healthy)
            until(lambda: mine.filter(state="delivered").count() == 20)
            # They hang still, every one of them that was given anything.
            assert WebhookDelivery.objects.filter(attempts__error_code="timeout").count() == 0
            until(lambda: WebhookDelivery.objects.filter(state="sending").count() == hanging.connections)
            assert self.BAD <= hanging.connections <= 2 * self.BAD
            # And they hold no slot of those who answer.
            until(lambda: engine.lanes.fast_free == self.FAST)
            assert engine.lanes.slow_free == self.SLOW - hanging.connections
            comment(5)
            engine.wake()
            until(lambda: mine.filter(state="delivered").count() == 25)
            assert hanging.connections <= 2 * self.BAD
            engine.stop()
            # Leaving the block closes the hanging connections, and with them the engine comes to its end.
        thread.join(30)
        assert not thread.is_alive()
        refused = WebhookDelivery.objects.filter(endpoint__url__contains="refuses")
        assert set(refused.values_list("state", flat=True)) <= {"retrying", "held"}
        assert refused.filter(attempt_count__gt=1).count() == 0

    def test_control_with_fast_slots_only_the_healthy_ones_wait(self, comment, customer, monkeypatch):
        """Without the slow lane the hanging ones have all of the slots: what the test above must be able to see."""
        monkeypatch.setattr(lanes, "UNKNOWN_SHARE", 1.0)
        monkeypatch.setattr(lanes.Lanes, "sort", lambda self: None)
        engine = Engine(concurrency=self.BAD, per_endpoint=4, linger=0, slow_concurrency=1)
        with Receiver(answering(OK)) as good, Receiver(then(lambda line: line.hang())) as hanging:
            for number in range(self.BAD):
                endpoints.create(customer, hanging.url(path=f"/hangs/{number}"))
            comment(2)
            thread = running(engine)
            until(lambda: hanging.connections == self.BAD)
            endpoints.create(customer, good.url())
            comment(5)
            engine.wake()
            time.sleep(3 * lanes.SLOW_AFTER)
            assert good.requests == []
            engine.stop()
        thread.join(30)


class TestAfterAStall:
    """The database was away, or the process stopped, for longer than leases last."""

    @pytest.fixture
    def claimed(self, comment, customer, engine):
        """Two webhooks that this worker has claimed, whose leases are over."""
        endpoints.create(customer, "http://127.0.0.1:9/")
        comment(2)
        assert engine._claim() == 2
        WebhookDelivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        return list(engine._waiting)

    def test_what_was_answered_is_recorded_before_anything_is_claimed(self, claimed, engine):
        for item in claimed:
            engine.lanes.start(item)
            engine._returned.put(Result(item, Exchange(status=200, diagnosis="answered 200 OK", total_ms=3.0)))
        engine._waiting = []
        assert engine.run() == 2
        assert states() == ["delivered"] * 2
        assert list(WebhookDelivery.objects.values_list("attempt_count", flat=True)) == [1, 1]

    def test_what_has_waited_for_long_is_not_sent_but_given_back(self, claimed, engine, monkeypatch):
        sent = []
        monkeypatch.setattr(engine, "_send", lambda session, item: sent.append(item))
        engine._waiting = [replace(item, since=item.since - PATIENCE - 1) for item in claimed]
        engine.lanes = Lanes(fast=8, slow=8, per_endpoint=4, ahead=8)
        for item in engine._waiting:
            engine.lanes.reserve(item, item.delivery.endpoint_id)
        with ThreadPoolExecutor(1) as pool:
            engine._start(pool, None)
        assert sent == engine._waiting == []
        assert states() == ["pending"] * 2
        assert engine.lanes.waiting == 0

    def test_what_a_rate_limit_let_through_goes_first(self, comment, customer, engine):
        endpoints.create(customer, "http://127.0.0.1:9/a")
        paced, _ = endpoints.create(customer, "http://127.0.0.1:9/b", rate_limit=5)
        endpoints.create(customer, "http://127.0.0.1:9/c")
        comment(1)
        assert engine._claim() == 3
        assert engine._waiting[0].delivery.endpoint_id == paced.pk

    @pytest.mark.parametrize("rate_limit", [None, 5])
    def test_what_a_rate_limit_let_through_does_not_go_out_in_a_bunch_later(
        self, comment, customer, engine, monkeypatch, rate_limit
    ):
        endpoint, _ = endpoints.create(customer, "http://127.0.0.1:9/", rate_limit=rate_limit)
        comment(1)
        assert engine._claim() == 1
        [item] = engine._waiting
        late = replace(item, since=item.since - 2)
        engine.lanes.drop(item)
        engine.lanes.reserve(late, endpoint.pk)
        engine._waiting = [late]
        with ThreadPoolExecutor(1) as pool:
            monkeypatch.setattr(engine, "_send", lambda session, item: None)
            engine._start(pool, None)
        assert states() == (["sending"] if rate_limit is None else ["pending"])


def test_a_machine_without_threads_loses_nothing_and_wedges_nothing(comment, customer, monkeypatch, caplog):
    """One thread is there; no further one can be started for a while."""
    engine = Engine(concurrency=8, per_endpoint=8, linger=0)
    refused, adjust = [], ThreadPoolExecutor._adjust_thread_count

    def none_left(pool):
        if pool._threads and len(refused) < 3:
            refused.append(pool)
            raise RuntimeError("can't start new thread")
        adjust(pool)

    monkeypatch.setattr(ThreadPoolExecutor, "_adjust_thread_count", none_left)
    with Receiver(answering(OK)) as receiver:
        endpoints.create(customer, receiver.url())
        comment(6)
        engine.run()
        assert states() == ["delivered"] * 6
        assert len(receiver.requests) == 6
    assert len(refused) == 3
    assert "No thread can be started" in caplog.text
    assert (engine.lanes.waiting, engine.lanes.out) == (0, 0)


def test_stopping_gives_back_what_has_not_gone_out_and_records_what_has(comment, customer, monkeypatch):
    """One thread for two attempts: the second is claimed and waits for it when the worker is asked to stop."""
    monkeypatch.setattr("notifications.webhooks.engine.ThreadPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    engine = Engine(concurrency=4, per_endpoint=2, linger=20)
    answer = threading.Event()

    def behave(line):
        while line.read():
            answer.wait(20)
            line.send(OK)

    with Receiver(behave) as receiver:
        endpoints.create(customer, receiver.url())
        comment(2)
        thread = running(engine)
        until(lambda: len(receiver.requests) == 1 and states() == ["sending", "sending"])
        engine.stop()
        until(lambda: states() == ["pending", "sending"])
        answer.set()
        thread.join(10)
        assert not thread.is_alive()
    assert states() == ["delivered", "pending"]
    given_back = WebhookDelivery.objects.get(state="pending")
    assert (given_back.lease_token, given_back.attempt_count) == (None, 0)
    assert given_back.next_attempt_at <= timezone.now()
    assert len(receiver.requests) == 1


def test_a_send_that_fails_in_our_own_code_costs_no_slot(comment, customer, monkeypatch, caplog):
    engine = Engine(concurrency=2, per_endpoint=2, linger=0)

    def send(session, item, policy):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("notifications.webhooks.sending.send", send)
    endpoints.create(customer, "http://127.0.0.1:9/a")
    comment()
    engine.run()
    assert (states(), engine.lanes.out) == (["sending"], 0)  # until its lease ends
    assert "RuntimeError" in caplog.text
    assert "a mistake of ours" not in caplog.text


def test_a_second_run_only_wakes_the_first(customer, comment):
    engine = Engine(concurrency=2, per_endpoint=2, linger=20)
    arrived = threading.Event()

    def behave(line):
        while line.read():
            line.send(OK)
            arrived.set()

    with Receiver(behave) as receiver:
        endpoints.create(customer, receiver.url())
        thread = running(engine)
        comment()
        while not arrived.wait(0.05):
            assert engine.run() == 0
        engine.stop()
        thread.join(10)
    assert states() == ["delivered"]


def test_the_receiver_of_this_application_is_called_in_process(comment, customer, engine):
    endpoints.create(customer, endpoints.INTERNAL_RECEIVER)
    comment()
    engine.run()
    assert states() == ["delivered"]
    event = Event.objects.get(entity="webhook", action="received")
    assert (event.visibility, event.person_id) == ("person", customer.pk)
    assert json.loads(event.payload_customer)["notification"]["type"] == "comment_on_ticket"
    queue.redeliver(WebhookDelivery.objects.all(), by_hand=True)
    engine.run()
    assert ReceivedWebhook.objects.count() == Event.objects.filter(action="received").count() == 1


def test_a_secret_that_cannot_be_opened_stops_neither_worker_nor_others(comment, customer, agent, engine):
    with Receiver(answering(OK)) as receiver:
        broken, _ = endpoints.create(customer, receiver.url())
        broken.encrypted_secret = "gibberish"
        broken.save()
        endpoints.create(customer, receiver.url(path="/other"))
        comment()
        engine.run()
    assert states() == ["delivered", "retrying"]
    assert "FIELD_ENCRYPTION_KEYS" in WebhookDelivery.objects.get(state="retrying").state_reason


def test_two_engines_never_send_one_delivery_twice(comment, customer):
    with Receiver(answering(OK)) as receiver:
        endpoints.create(customer, receiver.url())
        comment(40)
        engines = [running(Engine(4, 4, linger=1)) for _ in range(2)]
        for thread in engines:
            thread.join(30)
    ids = [parts(request)[0]["webhook-id"] for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 40
