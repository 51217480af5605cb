"""`webhook_check`: a receiver asked everything, by the command."""

import json
from uuid import uuid4

import pytest

from notifications.models import WebhookDelivery
from notifications.webhooks import endpoints, signing
from tests.commands.shell import manage

pytestmark = pytest.mark.django_db


def test_an_endpoint_that_passes(listen, agent):
    listener = listen()
    endpoint, secret = endpoints.set_primary(agent, listener.url)
    listener.secrets = [secret]
    ended = manage("webhook_check", str(endpoint.pk))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("pass  ") == 12
    assert secret not in ended.out
    assert not WebhookDelivery.objects.exists()


def test_a_url_that_takes_everything_fails_with_advice(listen):
    ended = manage("webhook_check", listen().url, "--secret", signing.generate_secret())
    assert ended.code == 1
    assert "7 of 12 checks failed." in ended.err
    assert "Verify the signature over webhook-id, webhook-timestamp and the raw bytes" in ended.out


def test_for_machines(listen):
    ended = manage("webhook_check", listen().url, "--json", "--secret", signing.generate_secret())
    assert {check["code"]: check["passed"] for check in json.loads(ended.out)}["stale"] is False


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "'nonsense' is neither the id of an endpoint nor a URL"),
        ([str(uuid4())], "There is no webhook endpoint"),
        (["http://127.0.0.1:9/"], "A URL needs the secret that its receiver knows"),
        (["https://10.0.0.5/"], "https://10.0.0.5/: "),
        (["/api/webhooks/notifications", "--secret", signing.generate_secret()], "inside this application"),
    ],
)
def test_what_cannot_be_checked(arguments, problem):
    ended = manage("webhook_check", *arguments)
    assert ended.code != 0
    assert problem in ended.err
