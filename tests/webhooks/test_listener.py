"""The listener: what it takes, what it refuses, and that it misbehaves only when told to."""

import http.client
import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from notifications.webhooks import listener as module
from notifications.webhooks import misbehaviour, signing
from notifications.webhooks.listener import Listener, honestly

SECRET = signing.generate_secret()
BODY = b'{"event":"notification.created","notification":{"type":"webhook_test","message":"Hi"},"data":null}'


class Running:
    """A listener in a thread, and all it said."""

    def __init__(self, behave=None, secrets=(SECRET,), host="127.0.0.1"):
        self.received, self.notes = [], []
        self.arrived, self.noted = threading.Event(), threading.Event()
        self.listener = Listener(
            host, 0, secrets=secrets, behave=behave or honestly, report=self.report, note=self.note
        )
        self.thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def report(self, received):
        self.received.append(received)
        self.arrived.set()

    def note(self, line):
        self.notes.append(line)
        self.noted.set()

    def close(self):
        self.listener.shutdown()
        self.thread.join()
        self.listener.close()

    @property
    def address(self):
        return self.listener.server_address[:2]

    def post(self, body=BODY, **headers):
        """Status and parsed answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request("POST", "/hook", body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def raw(self, data, shut=False):
        """Everything that comes back for these bytes, until the connection ends in whichever way."""
        answer = b""
        with socket.create_connection(self.address, timeout=10) as connection, suppress(ConnectionError):
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                answer += more
        return answer


@pytest.fixture
def start():
    running = []

    def start(*args, **options):
        running.append(Running(*args, **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


def signed(message_id="msg_1", body=BODY, secret=SECRET, age=0):
    timestamp = int(time.time()) - age
    return {
        "webhook_id": message_id,
        "webhook_timestamp": str(timestamp),
        "webhook_signature": signing.sign([secret], message_id, timestamp, body),
        "helpdesk_delivery_attempt": "2",
    }


def test_a_signed_webhook_is_received(start):
    running = start()
    assert running.post(**signed()) == (200, {"status": "received"})
    (received,) = running.received
    assert (received.verified, received.problem, received.times) == (True, "", 1)
    assert (received.message_id, received.attempt, received.path, received.body) == ("msg_1", "2", "/hook", BODY)
    assert received.notification == {"type": "webhook_test", "message": "Hi"}


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (None, "The header webhook-id is missing."),
        ({"secret": signing.generate_secret()}, "None of the 1 v1 signatures fits the id"),
        ({"body": b"{}"}, "None of the 1 v1 signatures fits the id"),
        ({"age": 3600}, "The message was signed "),
    ],
)
def test_what_is_not_signed_is_refused_with_the_reason(start, how, problem):
    running = start()
    status, answer = running.post(**({} if how is None else signed(**how)))
    assert (status, answer["status"]) == (401, "refused")
    assert answer["reason"].startswith(problem)
    assert (running.received[0].verified, running.received[0].times) == (False, 0)
    assert running.listener.tally == module.Tally(received=1, refused=1, repeated=0)


def test_either_secret_of_a_rotation_will_do(start):
    running = start(secrets=[signing.generate_secret(), SECRET])
    assert running.post(**signed())[0] == 200


def test_without_a_secret_nothing_is_checked(start):
    running = start(secrets=[])
    assert running.post()[0] == 200
    assert (running.received[0].verified, running.received[0].problem) == (None, "no secret to check with")


def test_a_repeated_id_is_noticed_and_answered_as_ever(start):
    running = start()
    forged = signed(secret=signing.generate_secret())
    for headers in (signed(), forged, signed(), signed("msg_2")):
        running.post(**headers)
    assert [one.times for one in running.received] == [1, 0, 2, 1]
    assert running.listener.tally == module.Tally(received=4, refused=1, repeated=1)


def test_ids_are_forgotten_in_time(start, monkeypatch):
    monkeypatch.setattr(module, "MAX_IDS", 2)
    running = start(secrets=[])
    for message_id in ("a", "b", "a", "c", "b", "a"):
        running.post(webhook_id=message_id)
    # `a` was used again before `c` came, so it is `b` that was forgotten; its return pushes out `a`.
    assert [one.times for one in running.received] == [1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\x00", b"[]", b"{}", b'{"notification": 1}', b'"a"', b"null", b"[" * 100_000]
)
def test_a_body_that_is_no_notification(start, body):
    running = start(secrets=[])
    assert running.post(body)[0] == 200
    assert running.received[0].notification == {}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (202, {"status": "received"}),
        (204, None),
        (304, None),
        (302, {"status": "refused", "reason": "told to answer 302"}),
        (410, {"status": "refused", "reason": "told to answer 410"}),
        (599, {"status": "refused", "reason": "told to answer 599"}),
    ],
)
def test_a_status_is_answered_whatever_comes(start, status, answer):
    running = start(misbehaviour.status(status))
    assert running.post(**signed()) == (status, answer)
    assert running.post() == (status, answer)
    assert [one.verified for one in running.received] == [True, False]


def test_a_delayed_answer_comes_after_the_report_and_no_later_than_the_end(start):
    running = start(misbehaviour.late(honestly, 3600))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(running.post(**signed())))
    thread.start()
    assert running.arrived.wait(10)
    assert answers == []
    running.listener.closing.set()
    thread.join(10)
    assert answers == [(200, {"status": "received"})]


def test_a_connection_is_kept_for_the_next_request(start):
    running = start(secrets=[])
    connection = http.client.HTTPConnection(*running.address, timeout=10)
    for _ in range(2):
        connection.request("POST", "/", BODY)
        assert connection.getresponse().read() == b'{"status": "received"}'
        sock = connection.sock
    assert connection.sock is sock
    connection.close()
    assert len(running.received) == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1000001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/9.9\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_what_is_no_webhook_at_all_is_refused_and_noted(start, request_, status):
    running = start()
    answer = running.raw(request_)
    assert b"Traceback" not in answer
    assert running.noted.wait(10)
    assert running.notes[0].startswith(f"Refused a request with {status}: ")
    assert running.received == []
    assert running.post(**signed())[0] == 200


def test_a_refusal_is_json_and_ends_the_connection(start):
    head, _, body = start().raw(b"POST / HTTP/1.1\r\nContent-Length: 1000001\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in head
    assert json.loads(body) == {"error": "a webhook has at most 1000000 bytes"}


def test_a_body_that_ends_too_early_is_noted(start):
    running = start()
    assert running.raw(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", shut=True) == b""
    assert running.notes == ["The sender closed the connection in the middle of the body."]
    assert running.received == []


def test_a_sender_that_does_not_wait_is_noted(start):
    def behave(handler, received):
        raise ConnectionResetError

    running = start(behave)
    running.raw(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert running.noted.wait(10)
    assert running.notes == ["The sender closed the connection before the whole answer was there."]


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_the_url_that_senders_on_this_machine_use(start, host, shown):
    running = start(host=host)
    assert running.listener.url == f"http://{shown}:{running.address[1]}/"
    assert running.post(**signed())[0] == 200


def test_ipv6(start):
    try:
        running = start(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert running.listener.url == f"http://[::1]:{running.address[1]}/"
    assert running.post(**signed())[0] == 200
