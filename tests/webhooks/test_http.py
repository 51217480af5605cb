"""What becomes of a call, whatever the receiver does. Receivers are sockets on loopback, misbehaving on purpose."""

import gzip
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.webhooks import guard, http
from notifications.webhooks.destination import Policy, networks
from notifications.webhooks.diagnosis import MAX_LENGTH
from notifications.webhooks.http import MAX_HEAD_KEPT, Exchange, open_session, post
from notifications.webhooks.schedule import Verdict, classify

from .receiver import OK, Line, Receiver, answering, then

POLICY = Policy(deadline=5, allowed_networks=networks("127.0.0.0/8", "::1/128"))
# For those who never finish: long enough for a slow machine to get as far as the test is about.
SHORT = replace(POLICY, deadline=0.4)


def call(receiver: Receiver, policy: Policy = POLICY, body: bytes = b'{"a":1}', **headers: str) -> Exchange:
    with open_session(policy) as session:
        return post(session, receiver.url(), body, headers, policy)


def answer(status: int = 200, headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


# --- What is sent ----------------------------------------------------------------------------------------------------


def test_a_post_is_sent_with_its_body_its_headers_and_our_defaults():
    with Receiver(answering(OK)) as receiver:
        with open_session(POLICY) as session:
            body, headers = "Grüße".encode(), {"webhook-id": "msg_1"}
            exchange = post(session, receiver.url(path="/hook?token=a%20b"), body, headers, POLICY)
        assert exchange.status == 200
    head, _, sent = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?token=a%20b HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:]) == [
        "accept-encoding: identity",
        "accept: */*",
        "content-length: 7",
        "content-type: application/json",
        f"host: 127.0.0.1:{receiver.port}",
        "user-agent: helpdesk-webhooks/1",
        "webhook-id: msg_1",
    ]
    assert sent == body


def test_the_callers_headers_win_over_the_defaults():
    with Receiver(answering(OK)) as receiver:
        call(receiver, **{"User-Agent": "other/2"})
    assert b"\r\nUser-Agent: other/2\r\n" in receiver.requests[0]
    assert b"helpdesk-webhooks" not in receiver.requests[0]


@pytest.mark.parametrize("headers", [{"X-A": "one\r\nX-B: two"}, {"X A\n": "one"}, {"X-A": "snow ☃"}, {"X-☃": "snow"}])
def test_headers_that_would_break_the_request_are_not_sent(headers):
    with Receiver(answering(OK)) as receiver:
        exchange = call(receiver, **headers)
    assert exchange.error == "request_invalid"
    assert receiver.connections == 0


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "diagnosis", "verdict"),
    [
        (200, "answered 200", Verdict.DELIVERED),
        (201, "answered 201", Verdict.DELIVERED),
        (204, "answered 204", Verdict.DELIVERED),
        (101, "answered 101 instead of 2xx", Verdict.RETRY),
        (302, "answered 302, redirects are not followed", Verdict.RETRY),
        (304, "answered 304 instead of 2xx", Verdict.RETRY),
        (400, "answered 400 instead of 2xx", Verdict.RETRY),
        (401, "answered 401, it wants credentials that the webhook does not have", Verdict.RETRY),
        (404, "answered 404, there is nothing at this path", Verdict.RETRY),
        (410, "answered 410, the receiver is gone for good", Verdict.PERMANENT),
        (429, "answered 429, it is getting more than it wants", Verdict.RETRY),
        (500, "answered 500, an error on the receiver's side", Verdict.RETRY),
        (503, "answered 503, it is overloaded or being repaired", Verdict.RETRY),
        (999, "answered 999, an error on the receiver's side", Verdict.RETRY),
    ],
)
def test_a_whole_answer_is_what_its_status_says(status, diagnosis, verdict):
    with Receiver(answering(answer(status))) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.error, exchange.timed_out) == (status, None, False)
    assert exchange.diagnosis == diagnosis
    assert classify(exchange) is verdict


def test_head_and_body_are_kept_and_everything_is_measured():
    reply = answer(200, "X-Twice: 1\r\nX-Twice: 2\r\n", b'{"status": "received"}')
    with Receiver(answering(reply)) as receiver:
        exchange = call(receiver)
    assert exchange.response_head == "HTTP/1.1 200 Whatever\nX-Twice: 1\nX-Twice: 2\nContent-Length: 22"
    assert (exchange.response_body, exchange.truncated) == ('{"status": "received"}', False)
    assert exchange.address == "127.0.0.1"
    assert (exchange.dns_ms, exchange.tls_ms) == (None, None)
    assert exchange.connect_ms is not None
    assert exchange.first_byte_ms is not None
    assert exchange.total_ms >= exchange.connect_ms + exchange.first_byte_ms


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_nor_its_body_read(status):
    with Receiver(answering(OK)) as target:
        location = f"HTTP/1.1 {status} Found\r\nLocation: {target.url()}\r\n\r\n".encode()
        with Receiver(then(lambda line: line.repeat(b"x" * 4096), first=location)) as receiver:
            exchange = call(receiver)
    assert (exchange.status, exchange.error, exchange.truncated) == (status, None, True)
    assert exchange.diagnosis == f"answered {status}, redirects are not followed"
    assert target.connections == 0
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "location", ["", "//", "http://[", "ftp://a.test/", "\xe9", "http://a.test:99999/", "x" * 9000]
)
def test_no_location_breaks_a_redirect(location):
    reply = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with Receiver(answering(reply)) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.error) == (302, None)


def test_a_body_up_to_the_cap_is_kept_whole():
    with Receiver(answering(answer(200, body=b"x" * POLICY.max_body_bytes))) as receiver:
        exchange = call(receiver)
    assert (exchange.error, exchange.truncated) == (None, False)
    assert len(exchange.response_body) == 16 * 1024


@pytest.mark.parametrize(
    "behave",
    [
        answering(answer(200, body=b"x" * (POLICY.max_body_bytes + 1))),
        then(lambda line: line.repeat(b"x" * 4096), first=b"HTTP/1.1 200 OK\r\n\r\n"),
        then(lambda line: line.repeat(b"x" * 4096), first=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        then(lambda line: line.repeat(b"1\r\nx\r\n"), first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["length", "endless", "declared-endless", "endless-chunks"],
)
def test_a_body_beyond_the_cap_is_cut_and_the_delivery_still_a_success(behave):
    with Receiver(behave) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.error, exchange.truncated) == (200, None, True)
    assert exchange.response_body == "x" * 16 * 1024
    assert classify(exchange) is Verdict.DELIVERED


def test_a_compressed_answer_that_nobody_asked_for_is_not_unfolded():
    bomb = gzip.compress(b"0" * 10_000_000)
    assert len(bomb) < 16 * 1024
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with Receiver(answering(head + bomb)) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.error) == (200, None)
    assert len(exchange.response_body) <= len(bomb)
    assert "0000" not in exchange.response_body


def test_a_body_is_text_that_a_text_column_takes():
    with Receiver(answering(answer(200, body=b"a\0b \xff\xfe \xc3\xa9 \xed\xa0\x80"))) as receiver:
        exchange = call(receiver)
    assert exchange.response_body == "ab \ufffd\ufffd é \ufffd\ufffd\ufffd"
    exchange.response_body.encode()


def test_a_character_that_the_cap_cuts_through_is_left_out():
    body = b"x" * (POLICY.max_body_bytes - 1) + "éé".encode()
    with Receiver(answering(answer(200, body=body))) as receiver:
        exchange = call(receiver)
    assert (exchange.response_body, exchange.truncated) == ("x" * (POLICY.max_body_bytes - 1), True)


def test_a_head_is_text_of_bounded_length():
    headers = "".join(f"X-{n}: {'y' * 1000}\xe9\r\n" for n in range(50))
    reply = b"HTTP/1.1 200 OK\0\r\n" + headers.encode("latin-1") + b"Content-Length: 0\r\n\r\n"
    with Receiver(answering(reply)) as receiver:
        exchange = call(receiver)
    assert exchange.error is None
    assert len(exchange.response_head) == MAX_HEAD_KEPT
    assert "\0" not in exchange.response_head


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("never", None)])
def test_retry_after_is_handed_on_in_seconds(value, seconds):
    with Receiver(answering(answer(503, f"Retry-After: {value}\r\n"))) as receiver:
        assert call(receiver).retry_after == seconds


def test_a_response_that_is_a_prelude_is_waited_through():
    with Receiver(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK)) as receiver:
        # 103 is final to http.client; what matters is that it is not taken for a success.
        exchange = call(receiver)
    assert (exchange.status, classify(exchange)) == (103, Verdict.RETRY)


# --- No answer, or not a whole one -----------------------------------------------------------------------------------


def test_nothing_listening_is_a_refused_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with open_session(POLICY) as session:
        exchange = post(session, f"http://127.0.0.1:{port}/", b"{}", {}, POLICY)
    assert (exchange.error, exchange.timed_out) == ("connect_refused", False)
    assert exchange.address == "127.0.0.1"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("behave", "status", "code"),
    [
        (lambda line: line.read(), None, "closed_without_answer"),
        (then(Line.reset), None, "connection_reset"),
        (then(Line.reset, first=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), 200, "connection_reset"),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n"), None, "answer_malformed"),
        (answering(b"\0\0\0\0\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 abc OK\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 20 OK\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 99999 OK\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/7.3 200 OK\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 200 " + b"x" * 70000 + b"\r\n\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n"), None, "answer_malformed"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), None, "answer_malformed"),
        (then(lambda line: None, first=b"HTTP/1.1 200 OK"), None, "answer_cut_off"),
        (then(lambda line: None, first=b"HTTP/1.1 200 OK\r\nContent-Type: te"), None, "answer_cut_off"),
        (then(lambda line: None, first=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), 200, "answer_cut_off"),
        (then(lambda line: None, first=CHUNKED), 200, "answer_cut_off"),
        (then(lambda line: None, first=CHUNKED + b"5\r\nab"), 200, "answer_cut_off"),
        (then(lambda line: None, first=CHUNKED + b"5\r\nabcde\r\n"), 200, "answer_cut_off"),
        (answering(CHUNKED + b"zz\r\nabcde\r\n"), 200, "answer_cut_off"),
        (then(lambda line: None, first=CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"), 200, "answer_cut_off"),
        (then(lambda line: line.repeat(b"X: y\r\n" * 50), first=CHUNKED + b"0\r\n"), 200, "answer_too_large"),
        (then(lambda line: line.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")), None, "answer_too_large"),
    ],
)
def test_what_is_no_whole_answer_is_a_failure_never_a_success(behave, status, code):
    with Receiver(behave) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.error, exchange.timed_out) == (status, code, False)
    assert exchange.diagnosis
    assert classify(exchange) is Verdict.RETRY


def test_what_came_of_a_cut_off_answer_is_kept():
    with Receiver(then(lambda line: None, first=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as receiver:
        exchange = call(receiver)
    assert exchange.diagnosis == "answered 200, but the rest of the answer is missing or garbled"
    assert exchange.response_head == "HTTP/1.1 200 OK\nContent-Length: 9"
    assert exchange.response_body == "abc"


@pytest.mark.parametrize(
    ("behave", "status"),
    [
        (Line.hang, None),
        (then(Line.hang), None),
        (then(Line.hang, first=b"HTTP/1.1 200 OK\r\n"), None),
        (then(lambda line: line.repeat(b"H", 0.02)), None),
        (then(lambda line: line.repeat(b"X: y\r\n", 0.02), first=b"HTTP/1.1 200 OK\r\n"), None),
        (then(lambda line: line.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)), None),
        (then(Line.hang, first=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), 200),
        (then(Line.hang, first=b"HTTP/1.1 200 OK\r\n\r\n"), 200),
        (then(lambda line: line.repeat(b"x", 0.02), first=b"HTTP/1.1 200 OK\r\n\r\n"), 200),
        (then(lambda line: line.repeat(b"x", 0.02), first=b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), 200),
        (then(lambda line: line.repeat(b"1\r\nx\r\n", 0.02), first=CHUNKED), 200),
        (then(lambda line: line.repeat(b"0", 0.02), first=CHUNKED), 200),
        (then(lambda line: line.repeat(b"X: y\r\n", 0.02), first=CHUNKED + b"0\r\n"), 200),
    ],
    ids=[
        *("accepts", "reads", "status-line", "drips-status-line", "drips-headers", "drips-continue", "stops-in-body"),
        *("never-ends", "drips-body", "drips-length", "drips-chunks", "drips-chunk-size", "drips-trailers"),
    ],
)
def test_the_deadline_covers_everything_and_running_out_of_it_is_never_a_success(behave, status):
    with Receiver(behave) as receiver:
        exchange = call(receiver, SHORT)
    assert (exchange.status, exchange.error, exchange.timed_out) == (status, "timeout", True)
    did_not = "did not answer" if status is None else "did not finish its answer"
    assert exchange.diagnosis == f"{did_not} within 0.4 s"
    assert classify(exchange) is Verdict.RETRY


def test_a_receiver_that_does_not_read_ends_at_the_deadline_too():
    with Receiver(Line.hang) as receiver:
        exchange = call(receiver, SHORT, body=b"x" * 20_000_000)  # more than the kernel's buffers take
    assert (exchange.error, exchange.timed_out) == ("timeout", True)


def test_a_kept_connection_is_under_the_deadline_of_the_call_that_uses_it():
    def answers_once(line: Line) -> None:
        line.read()
        line.send(OK)
        line.hang()

    with Receiver(answers_once) as receiver, open_session(SHORT) as session:
        first, second = (post(session, receiver.url(), body, {}, SHORT) for body in (b"{}", b"x" * 20_000_000))
    assert (first.status, second.status, second.error) == (200, None, "timeout")
    assert receiver.connections == 1


def test_an_early_answer_to_a_body_that_is_not_read_counts():
    def refuse(line: Line) -> None:
        line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        line.hang()

    with Receiver(refuse) as receiver:
        exchange = call(receiver)
    assert (exchange.status, exchange.diagnosis) == (413, "answered 413, the body is too large for it")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda noise: b"HTTP/1.1 200 OK\r\n" + noise)
    | st.binary(max_size=60).map(lambda noise: CHUNKED + noise)
    | st.text(max_size=40).map(lambda noise: f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: {noise}\r\n\r\nok".encode())
)
def test_no_noise_is_more_than_a_failure(noise):
    with Receiver(then(lambda line: None, first=noise)) as receiver:
        exchange = call(receiver)
    assert exchange.error != "unexpected"
    assert exchange.status is not None or exchange.error is not None
    assert len(exchange.diagnosis) <= MAX_LENGTH
    (exchange.response_head + exchange.response_body + exchange.diagnosis).encode()


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "url_missing"),
        ("/api/webhooks/notifications", "url_scheme"),
        (r"http://a.test\@127.0.0.1/", "url_characters"),
        ("https://user@a.test/", "url_user_info"),
        ("https://" + "a" * 63 + ".test/" + "x" * 2000, "url_too_long"),
        ("https://10.0.0.5/", "address_refused"),
        ("http://93.184.216.34/", "https_required"),
        ("https://93.184.216.34:22/", "port_refused"),
    ],
)
def test_a_bad_url_is_an_answer_and_no_exception(url, code):
    with open_session(POLICY) as session:
        exchange = post(session, url, b"{}", {}, POLICY)
    assert (exchange.error, exchange.status, exchange.address) == (code, None, None)
    assert exchange.total_ms >= 0


def test_a_long_host_still_fits_the_diagnosis_into_its_column():
    host = ".".join(["a" * 60] * 4)
    with open_session(POLICY) as session:
        exchange = post(session, f"https://{host}/", b"{}", {}, POLICY, resolver=lambda host, port: ["192.168.0.1"])
    assert exchange.error == "address_refused"
    assert len(exchange.diagnosis) <= MAX_LENGTH


def test_a_url_that_requests_would_read_otherwise_is_refused(monkeypatch):
    """The two parsers agree on all we accept (test_destination); this is the net below, should one of them change."""
    genuine = requests.PreparedRequest.prepare_url

    def misread(self, url, params):
        genuine(self, url.replace("127.0.0.1", "127.0.0.2"), params)

    monkeypatch.setattr(requests.PreparedRequest, "prepare_url", misread)
    http._prepared_url.cache_clear()  # an earlier receiver may have had this port
    with Receiver(answering(OK)) as receiver:
        exchange = call(receiver)
    assert exchange.error == "url_ambiguous"
    assert receiver.connections == 0


# --- Sessions --------------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_call():
    with Receiver(answering(OK)) as receiver, open_session(POLICY) as session:
        first, second = (post(session, receiver.url(), b"{}", {}, POLICY) for _ in range(2))
        assert (first.status, second.status) == (200, 200)
    assert receiver.connections == 1
    assert first.connect_ms is not None
    assert (second.dns_ms, second.connect_ms, second.tls_ms) == (None, None, None)
    assert second.first_byte_ms is not None
    assert second.address == "127.0.0.1"


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(guard, "KEEP_IDLE_SECONDS", 0)
    with Receiver(answering(OK)) as receiver, open_session(POLICY) as session:
        exchanges = [post(session, receiver.url(), b"{}", {}, POLICY) for _ in range(2)]
    assert [exchange.status for exchange in exchanges] == [200, 200]
    assert receiver.connections == 2


def test_a_receiver_that_closes_after_answering_is_connected_to_anew():
    with Receiver(then(lambda line: None, first=OK)) as receiver, open_session(POLICY) as session:
        exchanges = [post(session, receiver.url(), b"{}", {}, POLICY)]
        for thread in receiver._threads[1:]:  # the connection is closed when its thread has ended
            thread.join(10)
        exchanges.append(post(session, receiver.url(), b"{}", {}, POLICY))
    assert [exchange.status for exchange in exchanges] == [200, 200]
    assert receiver.connections == 2


def test_an_answer_that_comes_unasked_is_nobodys():
    """A receiver that answers twice must not have the second one taken for the next call's."""
    read, sent = threading.Event(), threading.Event()

    def twice(line: Line) -> None:
        line.read()
        line.send(OK)
        read.wait(10)
        line.send(answer(200, body=b"forged"))
        sent.set()
        line.hang()

    with Receiver(twice) as receiver, open_session(POLICY) as session:
        first = post(session, receiver.url(), b"{}", {}, POLICY)
        read.set()
        assert sent.wait(10)
        second = post(session, receiver.url(), b"{}", {}, POLICY)
    assert [first.response_body, second.response_body] == ["ok", "ok"]


def test_an_unfinished_answer_leaves_nothing_for_the_next_call():
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40000
    with Receiver(answering(endless, OK)) as receiver, open_session(POLICY) as session:
        exchanges = [post(session, receiver.url(), b"{}", {}, POLICY) for _ in range(2)]
    assert [(exchange.truncated, exchange.response_body[:2]) for exchange in exchanges] == [(True, "xx"), (False, "ok")]
    assert receiver.connections == 2


def test_cookies_are_neither_kept_nor_sent():
    with Receiver(answering(answer(200, "Set-Cookie: id=1; Path=/\r\n"))) as receiver, open_session(POLICY) as session:
        for _ in range(2):
            assert post(session, receiver.url(), b"{}", {}, POLICY).status == 200
        assert len(session.cookies) == 0
    assert b"cookie" not in receiver.requests[1].lower()


def test_threads_share_a_session_and_each_gets_its_own_answer():
    def echo(line: Line) -> None:
        while request := line.read():
            line.send(answer(200, body=request.partition(b"\r\n\r\n")[2]))

    with Receiver(echo) as receiver, open_session(POLICY) as session, ThreadPoolExecutor(16) as threads:
        bodies = [f'{{"number": {number}}}' for number in range(200)]
        exchanges = threads.map(lambda body: post(session, receiver.url(), body.encode(), {}, POLICY), bodies)
        assert [exchange.response_body for exchange in exchanges] == bodies


def test_an_error_of_our_own_is_an_answer_too_and_is_logged_without_the_url(monkeypatch, caplog):
    url = "https://a.test/?token=" + "secret"

    def fail(*args: object) -> None:
        raise RuntimeError(url)

    monkeypatch.setattr(guard, "connect", fail)
    with open_session(POLICY) as session:
        exchange = post(session, url, b"{}", {}, POLICY)
    assert (exchange.error, exchange.timed_out) == ("unexpected", False)
    assert exchange.diagnosis == "the call failed for a reason of our own (RuntimeError)"
    assert "RuntimeError" in caplog.text
    assert "in _new_conn" in caplog.text
    assert "token=secret" not in caplog.text
