"""The receivers of `docs/webhooks.md`, run as printed against requests that were really signed."""

import json
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import standardwebhooks
from django.utils import timezone

from notifications import examples
from notifications.models import WebhookEndpoint
from notifications.recording import record_test
from notifications.webhooks import conformance, endpoints, http, queue, sending, signing, trial
from notifications.webhooks.policy import current_policy

from .conftest import require
from .node_scripts import NODE
from .system import REPOSITORY, free_port

pytestmark = pytest.mark.django_db

TEXT = (REPOSITORY / "docs" / "webhooks.md").read_text(encoding="utf-8")
REFUSALS = (ValueError, standardwebhooks.WebhookVerificationError)


def snippet(name: str) -> str:
    """The code fence of this name: the word after its language."""
    (found,) = re.findall(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return found


class Request:
    """A webhook as the engine signs it, and the secret it is signed with."""

    def __init__(self, endpoint: WebhookEndpoint, secret: str) -> None:
        lease = uuid4()
        record_test(endpoint, examples.of_endpoint(endpoint, "Grüße"), lease, timezone.now() + queue.lease_length())
        (claimed,) = queue.load(lease)
        self.secret = secret
        self.body, self.headers = sending.signed_request(claimed)

    def signed(self, timestamp: int) -> dict[str, str]:
        """The headers as they would be at another time."""
        message_id = self.headers[signing.ID_HEADER]
        return {
            **self.headers,
            signing.TIMESTAMP_HEADER: str(timestamp),
            signing.SIGNATURE_HEADER: signing.sign([self.secret], message_id, timestamp, self.body),
        }

    def forgeries(self) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
        """What must be refused: a name, and secret, headers and body."""
        sent_at = int(self.headers[signing.TIMESTAMP_HEADER])
        written_again = json.dumps(json.loads(self.body)).encode()
        yield "another body", self.secret, self.headers, self.body + b" "
        yield "a body written again", self.secret, self.headers, written_again
        yield "another secret", signing.generate_secret(), self.headers, self.body
        yield "too old", self.secret, self.signed(sent_at - 3600), self.body
        yield "from the future", self.secret, self.signed(sent_at + 3600), self.body
        for name in (signing.ID_HEADER, signing.TIMESTAMP_HEADER, signing.SIGNATURE_HEADER):
            without = {key: value for key, value in self.headers.items() if key != name}
            yield f"no {name}", self.secret, without, self.body
        yield "an empty signature", self.secret, {**self.headers, signing.SIGNATURE_HEADER: "v1,"}, self.body


@pytest.fixture
def endpoint(agent) -> tuple[WebhookEndpoint, str]:
    return endpoints.create(agent, "http://127.0.0.1:9/hook")


@pytest.mark.parametrize("name", ["standardwebhooks", "plain"])
def test_python(endpoint, name):
    scope: dict = {}
    exec(compile(snippet(name), f"docs/webhooks.md {name}", "exec"), scope)
    verified = scope["verified"]
    request = Request(*endpoint)
    assert verified(request.secret, request.headers, request.body) == json.loads(request.body)
    for forgery, secret, headers, body in request.forgeries():
        try:
            verified(secret, headers, body)
        except REFUSALS:
            continue
        pytest.fail(f"{name} takes {forgery}")


@pytest.mark.parametrize("name", ["standardwebhooks", "plain"])
def test_python_during_a_rotation(endpoint, name):
    scope: dict = {}
    exec(compile(snippet(name), f"docs/webhooks.md {name}", "exec"), scope)
    target, old = endpoint
    new = endpoints.rotate_secret(target)
    request = Request(target, new)
    for secret in (old, new):
        assert scope["verified"](secret, request.headers, request.body)


# Reads cases as JSON lines and says of each whether `verify` takes it.
DRIVER = """
const { verify } = require('./verify');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { secret, headers, body } = JSON.parse(line);
  try {
    verify(secret, headers, Buffer.from(body, 'base64'));
    console.log('taken');
  } catch (error) {
    console.log('refused');
  }
});
"""


# The same, by the package that the specification's authors publish.
ORACLE = """
const { Webhook } = require('standardwebhooks');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(Buffer.from(body, 'base64'), headers);
    console.log('taken');
  } catch (error) {
    console.log('refused');
  }
});
"""

PHP_DRIVER = """<?php
require 'verify.php';
while (($line = fgets(STDIN)) !== false) {
    $case = json_decode($line, true);
    try {
        verify($case['secret'], $case['headers'], base64_decode($case['body']));
        echo "taken\\n";
    } catch (RuntimeException $error) {
        echo "refused\\n";
    }
}
"""


def check_verifier(endpoint, command: list[str], folder) -> None:
    """A program that reads cases as JSON lines takes what is signed by either secret, and refuses every forgery."""
    target, old = endpoint
    new = endpoints.rotate_secret(target)
    request = Request(target, new)
    cases = [
        ("the new secret", new, request.headers, request.body),
        ("the old secret", old, request.headers, request.body),
        *request.forgeries(),
    ]
    lines = [
        json.dumps({"secret": secret, "headers": headers, "body": b64encode(body).decode()})
        for _name, secret, headers, body in cases
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        input="\n".join(lines),
        env={**os.environ, "NODE_PATH": str(NODE / "node_modules")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    verdicts = dict(zip([case[0] for case in cases], done.stdout.split(), strict=True))
    expected = {name: "taken" if name in ("the new secret", "the old secret") else "refused" for name in verdicts}
    assert verdicts == expected


def test_javascript_with_nothing_but_node(endpoint, tmp_path):
    (tmp_path / "verify.js").write_text(snippet("verify.js"), encoding="utf-8")
    (tmp_path / "driver.js").write_text(DRIVER)
    check_verifier(endpoint, [require("node"), "driver.js"], tmp_path)


def test_the_package_of_npm(node, endpoint, tmp_path):
    (tmp_path / "driver.js").write_text(ORACLE)
    check_verifier(endpoint, [require("node"), "driver.js"], tmp_path)


def test_php(endpoint, tmp_path):
    (tmp_path / "verify.php").write_text(snippet("verify.php"), encoding="utf-8")
    (tmp_path / "driver.php").write_text(PHP_DRIVER)
    check_verifier(endpoint, [require("php"), "driver.php"], tmp_path)


@pytest.fixture
def express(node, tmp_path) -> Iterator[Callable[[int, str], subprocess.Popen[str]]]:
    """Run the documented receiver: `express(port, secret)`; gives the process, which has said that it listens."""
    started = []

    def run(port: int, secret: str) -> subprocess.Popen[str]:
        for name in ("verify.js", "receiver.js"):
            (tmp_path / name).write_text(snippet(name), encoding="utf-8")
        process = subprocess.Popen(
            [require("node"), "receiver.js"],
            cwd=tmp_path,
            env={
                **os.environ,
                "NODE_PATH": str(NODE / "node_modules"),
                "PORT": str(port),
                "WEBHOOK_SECRET": secret,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "listening\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_express_receiver(agent, express):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/webhooks/notifications"
    endpoint, secret = endpoints.create(agent, url)
    process = express(port, secret)

    attempt = trial.send_test(endpoint)
    assert (attempt.status_code, attempt.response_body) == (200, '{"status":"received"}')
    assert process.stdout.readline() == f"webhook_test {endpoint.pk}\n"

    request = Request(endpoint, secret)
    with http.open_session(current_policy()) as session:
        for name, _secret, headers, body in request.forgeries():
            if name != "another secret":  # the receiver has but one
                assert http.post(session, url, body, headers, current_policy()).status == 401, name
        for _ in range(2):
            assert http.post(session, url, request.body, request.headers, current_policy()).status == 200
    second = trial.send_test(endpoint)
    assert second.succeeded
    # Two lines for three messages taken: the repetition did no work.
    assert [process.stdout.readline() for _ in range(2)] == [f"webhook_test {endpoint.pk}\n"] * 2
    process.terminate()
    assert process.stdout.read() == ""


def test_the_express_receiver_passes_every_check(agent, express):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/webhooks/notifications"
    endpoint, secret = endpoints.create(agent, url)
    express(port, secret)
    checks = conformance.check(endpoint.url, endpoint.secrets())
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == 12
