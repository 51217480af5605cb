"""What the listener can be told to do wrong, through the real sender: each is explained for what it is."""

import threading

import pytest

from notifications.webhooks import misbehaviour, signing
from notifications.webhooks.destination import Policy, networks
from notifications.webhooks.http import Exchange, open_session, post
from notifications.webhooks.listener import Listener, honestly
from notifications.webhooks.schedule import Verdict, classify

POLICY = Policy(deadline=5, allowed_networks=networks("127.0.0.0/8"))
SHORT = Policy(deadline=0.5, allowed_networks=networks("127.0.0.0/8"))


@pytest.fixture
def listen():
    """Start a listener that behaves so; gives its URL."""
    running = []

    def listen(behave):
        listener = Listener(
            "127.0.0.1", 0, secrets=[], behave=behave, report=lambda received: None, note=lambda line: None
        )
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((listener, thread))
        return listener.url

    yield listen
    for listener, thread in running:
        listener.closing.set()
        listener.shutdown()
        thread.join()
        listener.close()


def send(url: str, policy: Policy = POLICY, message_id: str = "msg_1") -> Exchange:
    with open_session(policy) as session:
        return post(session, url, b"{}", {signing.ID_HEADER: message_id}, policy)


def test_a_reset_is_a_reset_and_no_polite_end(listen):
    exchange = send(listen(misbehaviour.reset))
    assert (exchange.status, exchange.error) == (None, "connection_reset")


def test_garbage_is_no_http(listen):
    exchange = send(listen(misbehaviour.garbage))
    assert (exchange.status, exchange.error) == (None, "answer_malformed")


def test_a_redirect_is_shown_and_not_followed(listen):
    elsewhere = listen(honestly)
    exchange = send(listen(misbehaviour.redirect(elsewhere)))
    assert (exchange.status, exchange.error) == (302, None)
    assert f"Location: {elsewhere}" in exchange.response_head
    assert classify(exchange) is Verdict.RETRY


def test_a_status_with_retry_after(listen):
    exchange = send(listen(misbehaviour.status(429, 120)))
    assert (exchange.status, exchange.retry_after) == (429, 120.0)


def test_a_drip_is_ended_by_the_total_deadline(listen):
    # Each byte comes well within the deadline; the answer as a whole does not.
    exchange = send(listen(misbehaviour.dripping(honestly, 0.1)), SHORT)
    assert (exchange.error, exchange.timed_out) == ("timeout", True)
    assert 400 <= exchange.total_ms < 2000


def test_a_drip_that_ends_in_time_is_an_answer(listen):
    exchange = send(listen(misbehaviour.dripping(honestly, 0.001)))
    assert (exchange.status, exchange.response_body) == (200, '{"status": "received"}')


def test_a_late_answer(listen):
    assert send(listen(misbehaviour.late(honestly, 3600)), SHORT).error == "timeout"


def test_wrong_at_first_counts_each_message_by_itself(listen):
    url = listen(misbehaviour.at_first(misbehaviour.status(503), 2))
    assert [send(url).status for _ in range(3)] == [503, 503, 200]
    assert send(url, message_id="msg_2").status == 503
