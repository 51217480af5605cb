"""`webhook_test`: one real webhook, and what came of it."""

import json

import pytest

from notifications.models import WebhookDelivery
from notifications.webhooks import endpoints
from notifications.webhooks.misbehaviour import status
from tests.commands.shell import manage

pytestmark = pytest.mark.django_db


@pytest.fixture
def connect(listen):
    """Make a listener somebody's webhook URL."""

    def connect(owner, behave=None):
        listener = listen(behave)
        endpoint, secret = endpoints.set_primary(owner, listener.url)
        listener.secrets = [secret]
        return endpoint

    return connect


def test_it_is_sent_signed_and_recorded(connect, agent, received):
    connect(agent)
    ended = manage("webhook_test", "agent")
    assert ended.code == 0
    assert [one.verified for one in received] == [True]
    assert received[0].notification["type"] == "webhook_test"
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.message_id) == ("delivered", received[0].message_id)
    assert delivery.attempts.get().succeeded
    for text in (delivery.message_id, "answered 200", "HTTP/1.1 200 OK", '{"status": "received"}', "total ms"):
        assert text in ended.out


def test_a_person_is_found_by_the_e_mail_address_in_any_letter_case(connect, agent, received):
    connect(agent)
    assert manage("webhook_test", "AGENT@Example.com").code == 0
    assert len(received) == 1


def test_a_failure_is_exit_code_1_with_the_diagnosis_and_is_tried_again(connect, agent):
    connect(agent, status(503))
    ended = manage("webhook_test", "agent")
    assert ended.code == 1
    assert "answered 503" in ended.out
    assert "Not delivered: answered 503, it is overloaded or being repaired. It is tried again at" in ended.err
    assert WebhookDelivery.objects.get().state == "retrying"


def test_nobody_listening_is_a_failure_too(endpoint):
    ended = manage("webhook_test", "agent")
    assert ended.code == 1
    assert "nothing is listening on this port" in ended.err


def test_json_is_one_object(connect, agent):
    endpoint = connect(agent)
    found = json.loads(manage("webhook_test", "agent", "--json").out)
    assert (found["succeeded"], found["status"], found["endpoint"]) == (True, 200, str(endpoint.pk))
    assert found["response_body"] == '{"status": "received"}'
    assert found["webhook_id"] == WebhookDelivery.objects.get().message_id


def test_an_answer_cannot_steer_the_terminal(connect, agent):
    def paint(handler, received):
        handler.respond(200, {"status": "red"})

    def repaint(handler, received):
        handler.send_response(200)
        handler.send_header("Content-Length", "9")
        handler.end_headers()
        handler.wfile.write(b"\x1b[31mred\n")

    connect(agent, repaint)
    out = manage("webhook_test", "agent").out
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out


def test_a_paused_endpoint_can_be_tested(connect, agent, received):
    endpoints.pause(connect(agent))
    assert manage("webhook_test", "agent").code == 0
    assert len(received) == 1


def test_a_certain_endpoint(connect, listen, agent, received):
    connect(agent)
    other, _secret = endpoints.create(agent, listen().url + "other")
    assert manage("webhook_test", "agent", "--endpoint", other.pk).code == 0
    assert [one.path for one in received] == ["/other"]


def test_the_only_endpoint_needs_no_name_but_one_of_several_does(listen, agent, received):
    listener = listen()
    first, _secret = endpoints.create(agent, listener.url + "first")
    assert manage("webhook_test", "agent").code == 0
    second, _secret = endpoints.create(agent, listener.url + "second")
    ended = manage("webhook_test", "agent")
    assert ended.code == 1
    assert str(first.pk) in ended.err
    assert str(second.pk) in ended.err
    assert [one.path for one in received] == ["/first"]


def test_the_example_of_another_type_is_sent_marked_as_a_test(connect, agent, received):
    connect(agent)
    assert manage("webhook_test", "agent", "--type", "reply_to_comment").code == 0
    assert received[0].notification["type"] == "reply_to_comment"
    assert received[0].notification["message"].startswith("Test: ")
    assert received[0].headers["helpdesk-test"] == "true"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "There is no user 'nobody'"),
        (["customer"], "customer has no webhook URL: PUT /api/users/me/webhook"),
        (["agent", "--type", "nonsense"], "There is no notification type 'nonsense'"),
        (["agent", "--endpoint", "nonsense"], "invalid UUID value: 'nonsense'"),
        (["agent", "--endpoint", "019a9246-c7d0-7c3a-8c3b-0e6f5a4d3c2b"], "There is no webhook endpoint 019a9246"),
        ([], "the following arguments are required: user"),
    ],
)
def test_what_cannot_be_sent_is_said_in_one_line(endpoint, customer, arguments, words):
    ended = manage("webhook_test", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not WebhookDelivery.objects.exists()


def test_somebody_elses_endpoint(endpoint, customer):
    ended = manage("webhook_test", "customer", "--endpoint", endpoint.pk)
    assert ended.code == 1
    assert "belongs to agent, not to customer" in ended.err


def test_a_deactivated_owner_gets_nothing(connect, agent, received):
    connect(agent)
    agent.deactivate()
    ended = manage("webhook_test", "agent")
    assert ended.code == 1
    assert "Nothing was sent" in ended.err
    assert received == []
    assert WebhookDelivery.objects.get().state == "cancelled"
