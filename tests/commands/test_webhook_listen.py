"""`webhook_listen`: started as a person would, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from notifications.webhooks import signing
from tests.commands.shell import manage

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = signing.generate_secret()


class Process:
    """The command, and its output line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "webhook_listen", "--port", "0", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        return self.process.stdout.readline().rstrip("\n")

    def lines_until(self, start: str) -> list[str]:
        lines = []
        while not lines or not lines[-1].startswith(start):
            line = self.process.stdout.readline()
            assert line, f"it ended after {lines}"
            lines.append(line.rstrip("\n"))
        return lines

    def interrupt(self) -> tuple[int, list[str], str]:
        """Ctrl-C: exit code, the last lines, and what it complained about."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.splitlines(), err


@pytest.fixture
def start():
    started = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()
        one.process.stderr.close()


def post(url: str, body: bytes, message_id: str = "msg_1", secret: str = SECRET) -> int:
    timestamp = int(time.time())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign([secret], message_id, timestamp, body),
        "helpdesk-delivery-attempt": "1",
    }
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def body(message: str) -> bytes:
    return json.dumps({"notification": {"type": "comment_on_ticket", "message": message}}).encode()


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"PORT": "5123"}, "http://localhost:5123"),
        ({"PUBLIC_URL": "https://help.example.com/"}, "https://help.example.com"),
    ],
)
def test_the_hint_names_this_installation(start, monkeypatch, variables, url):
    monkeypatch.delenv("PUBLIC_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert f"  curl -X PUT {url}/api/users/me/webhook" in start().lines_until("Ctrl-C")[3]


def test_a_person_reads_what_came(start):
    process = start("--secret", SECRET, "--full")
    introduction = process.lines_until("Ctrl-C")
    url = introduction[0].removeprefix("Listening on ")
    assert f'-d \'{{"webhook_url": "{url}"}}\'' in introduction[4]
    process.line()

    assert post(url, body("New comment \x1b[31m")) == 200
    head, message, request = process.line(), process.line(), process.line()
    assert head.split("  ")[1:] == ["msg_1", "attempt 1", "verified"]
    assert message.strip() == r"comment_on_ticket: New comment \x1b[31m"
    assert request == "POST /"
    assert process.lines_until('{"notification"')[-1] == body("New comment \x1b[31m").decode()
    process.line()

    assert post(url, body("again")) == 200
    assert process.lines_until('{"notification"')[2].strip().startswith("seen before, this is number 2")
    process.line()
    assert post(url, body("forged"), "msg_2", signing.generate_secret()) == 401
    assert "NOT VERIFIED: None of the 1 v1 signatures fits" in process.line()

    code, out, err = process.interrupt()
    assert (code, err) == (0, "")
    assert out[-1] == "3 received, 1 not verified, 1 seen before"
    assert SECRET.removeprefix("whsec_") not in "\n".join([*introduction, *out])


def test_a_machine_reads_a_line_each(start):
    process = start("--json", "--status", "503")
    url = json.loads(process.line())["listening"]
    assert post(url + "hook?a=1", body("one")) == 503
    found = json.loads(process.line())
    assert found.pop("received_at").endswith("Z")
    assert found == {
        "path": "/hook?a=1",
        "webhook_id": "msg_1",
        "attempt": "1",
        "verified": None,
        "problem": "no secret to check with",
        "times": 1,
        "type": "comment_on_ticket",
        "message": "one",
    }
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=30)
    refused.value.close()
    assert json.loads(process.line()) == {"note": "Refused a request with 501: Unsupported method ('GET')"}
    code, out, err = process.interrupt()
    assert (code, err) == (0, "")
    assert json.loads(out[-1]) == {"summary": {"received": 1, "not_verified": 0, "seen_before": 0}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "a port is a number from 0 to 65535"),
        (["--port", "http"], "a port is a number from 0 to 65535"),
        (["--status", "100"], "a status is a number from 200 to 599"),
        (["--delay", "-1"], "a number of seconds, at most 3600"),
        (["--drip", "x"], "a number of seconds, at most 3600"),
        (["--fail-first", "0", "--status", "503"], "a number from 1 to 1000"),
        (["--retry-after", "1.5", "--status", "429"], "a whole number of seconds, at most 86400"),
        (["--reset", "--garbage"], "not allowed with argument"),
        (["--fail-first", "2"], "--fail-first needs something to do wrong, such as --status 503."),
        (["--retry-after", "9"], "--retry-after goes with --status, such as --status 429."),
        (["--delay", "nan"], "a number of seconds, at most 3600"),
        (["--secret", "whsec_hunter2!"], "A secret is whsec_ followed by base64 text."),
        (["--host", "192.0.2.1"], "Cannot listen on 192.0.2.1, port 0: Cannot assign requested address."),
        (["--host", "a..b"], "Cannot listen on a..b, port 0:"),
    ],
)
def test_bad_arguments(arguments, words):
    ended = manage("webhook_listen", "--port", "0", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert "hunter2" not in ended.err


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = manage("webhook_listen", "--port", taken.getsockname()[1])
    assert ended.code == 1
    assert "Address already in use" in ended.err
