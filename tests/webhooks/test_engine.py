"""The engine against real receivers on loopback: what is due arrives, signed, whatever other receivers do."""

import json
import threading

import pytest
from django.db import connection
from standardwebhooks import Webhook

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from helpdesk.changes.unit import unit
from notifications.models import Event, ReceivedWebhook, WebhookDelivery
from notifications.webhooks import endpoints, queue
from notifications.webhooks.engine import Engine
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
        queue.redeliver(WebhookDelivery.objects.all())
        engine.run()
    (first, first_body), (second, second_body) = map(parts, receiver.requests)
    assert first_body == second_body
    assert first["webhook-id"] == second["webhook-id"]
    Webhook(secret).verify(second_body, second)
    assert states() == ["delivered"]


def test_hanging_and_refusing_receivers_hold_up_nobody(comment, customer, agent, ticket, engine, settings):
    """The healthy endpoint gets all of its deliveries while the hanging one still holds its share of the slots."""
    all_there = threading.Event()
    healthy_requests = []

    def healthy(line):
        while request := line.read():
            healthy_requests.append(request)
            line.send(OK)
            if len(healthy_requests) == 20:
                all_there.set()

    with Receiver(healthy) as good, Receiver(then(lambda line: line.hang())) as hanging:
        endpoints.create(customer, good.url())
        endpoints.create(customer, hanging.url())
        endpoints.create(customer, "http://127.0.0.1:9/refuses")
        comment(20)
        thread = running(engine)
        assert all_there.wait(20)
        assert hanging.connections <= 4
        engine.stop()
        # Leaving the block closes the hanging connections, and with them the engine comes to its end.
    thread.join(30)
    assert not thread.is_alive()
    assert WebhookDelivery.objects.filter(state="delivered").count() == 20


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
    queue.redeliver(WebhookDelivery.objects.all())
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
