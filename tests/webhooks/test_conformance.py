"""The check of receivers: ours passes, and each thing that can be missing is found."""

import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from notifications.webhooks import conformance, misbehaviour, signing
from notifications.webhooks.destination import Policy, networks
from notifications.webhooks.listener import Listener, honestly

POLICY = Policy(deadline=2, allowed_networks=networks("127.0.0.0/8"))
SECRET = signing.generate_secret()
ALL = {"honest", "pace", "repetition", "rotation", "unknown_type"} | {
    "unsigned", "no_signature", "bad_signature", "changed_body", "changed_id", "stale", "early",
}  # fmt: skip


class Receiver:
    """Answers with the status that `judge(headers, body, ids seen)` gives; headers in lower case."""

    def __init__(self, judge):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = judge(headers, body, seen)
                seen.add(headers.get("webhook-id"))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        seen: set = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def failed(url: str) -> set[str]:
    checks = conformance.check(url, [SECRET], POLICY)
    assert all(bool(check.advice) is not check.passed for check in checks)
    return {check.code for check in checks if not check.passed}


def verified(headers: Mapping[str, str], body: bytes) -> bool:
    try:
        signing.verify([SECRET], headers, body, time.time())
    except signing.VerificationError:
        return False
    return True


def test_an_honest_receiver_passes_everything():
    with Receiver(lambda headers, body, seen: 200 if verified(headers, body) else 401) as url:
        checks = conformance.check(url, [SECRET], POLICY)
    assert {check.code for check in checks} == ALL
    assert [check.code for check in checks if not check.passed] == []


def test_one_that_takes_everything_is_told_each_forgery():
    with Receiver(lambda headers, body, seen: 200) as url:
        assert failed(url) == {
            "unsigned", "no_signature", "bad_signature", "changed_body", "changed_id", "stale", "early",
        }  # fmt: skip


def test_one_that_does_not_look_at_the_clock():
    def judge(headers, body, seen):
        try:
            signing.verify([SECRET], headers, body, float(headers.get("webhook-timestamp", 0)))
        except signing.VerificationError:
            return 401
        return 200

    with Receiver(judge) as url:
        assert failed(url) == {"stale", "early"}


def test_one_that_looks_at_the_first_signature_only():
    def judge(headers, body, seen):
        one = {**headers, "webhook-signature": headers.get("webhook-signature", "").split(" ")[0]}
        return 200 if verified(one, body) else 401

    with Receiver(judge) as url:
        assert failed(url) == {"rotation"}


def test_one_that_refuses_repetitions():
    def judge(headers, body, seen):
        if not verified(headers, body):
            return 400
        return 409 if headers["webhook-id"] in seen else 200

    with Receiver(judge) as url:
        assert failed(url) == {"repetition"}


def test_one_that_knows_every_type_there_will_ever_be():
    with Receiver(
        lambda headers, body, seen: (422 if b"next_year" in body else 200) if verified(headers, body) else 403
    ) as url:
        assert failed(url) == {"unknown_type"}


def test_one_that_breaks_instead_of_refusing_is_told_so():
    with Receiver(lambda headers, body, seen: 200 if verified(headers, body) else 500) as url:
        checks = {check.code: check for check in conformance.check(url, [SECRET], POLICY)}
    assert not checks["bad_signature"].passed
    assert checks["bad_signature"].advice == "It failed instead of refusing: answer what you do not take with 401."


def test_one_that_takes_its_time(monkeypatch):
    def judge(headers, body, seen):
        if not seen:
            time.sleep(0.4)
        return 200 if verified(headers, body) else 401

    monkeypatch.setattr(conformance, "COMFORTABLE_MS", 300)
    with Receiver(judge) as url:
        assert failed(url) == {"pace"}


@pytest.mark.parametrize("behave", [misbehaviour.status(503), misbehaviour.reset, misbehaviour.garbage])
def test_one_that_takes_nothing_is_asked_nothing_more(behave):
    taken = []
    listener = Listener("127.0.0.1", 0, secrets=[SECRET], behave=behave, report=taken.append, note=lambda line: None)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        assert failed(listener.url) == {"honest"}
    finally:
        listener.shutdown()
        thread.join()
        listener.close()
    assert len(taken) == 1


def test_our_own_listener_passes():
    listener = Listener(
        "127.0.0.1", 0, secrets=[SECRET], behave=honestly, report=lambda received: None, note=lambda line: None
    )
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        assert failed(listener.url) == set()
    finally:
        listener.shutdown()
        thread.join()
        listener.close()


def test_an_address_that_is_refused_is_not_asked():
    (only,) = conformance.check("https://10.0.0.5/", [SECRET], POLICY)
    assert (only.code, only.passed) == ("honest", False)
    assert "private" in only.answer
