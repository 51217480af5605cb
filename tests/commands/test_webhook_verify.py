"""`webhook_verify`: a captured request, and what is wrong with it in plain words."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from notifications.webhooks import signing
from tests.commands.shell import manage

# The test vector of the Standard Webhooks libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
THEN = "2021-02-25T15:02:10Z"


@pytest.fixture
def verify(tmp_path):
    """Check the vector, or what is left of it when some of it is replaced; None leaves an argument out."""

    def verify(*more, body=BODY, secret=SECRET, id_=ID, timestamp=TIMESTAMP, signature=SIGNATURE, now=THEN):
        (tmp_path / "body").write_bytes(body)
        options = {"--secret": secret, "--id": id_, "--timestamp": timestamp, "--signature": signature, "--now": now}
        pairs = [text for name, value in options.items() if value is not None for text in (name, value)]
        ended = manage("webhook_verify", *pairs, "--body", tmp_path / "body", *more)
        assert SECRET.removeprefix("whsec_") not in ended.out + ended.err
        return ended

    return verify


def signed(original: bytes, *, body: bytes) -> dict:
    """Replacements for `verify`: `body`, with the signature of what it originally was."""
    return {"signature": signing.sign([SECRET], ID, TIMESTAMP, original), "body": body}


def test_what_fits_is_shown_and_exit_code_0(verify):
    ended = verify()
    assert ended.code == 0
    assert f'{ID}.{TIMESTAMP}.{{"test": 2432232314}}' in ended.out
    assert ended.out.count(SIGNATURE) == 2
    assert "2021-02-25T15:02:10.000000Z" in ended.out
    assert "The signature fits" in ended.out


def test_json_has_the_same(verify):
    found = json.loads(verify("--json").out)
    assert found["verified"] is True
    assert found["signed_string"] == f"{ID}.{TIMESTAMP}.{BODY.decode()}"
    assert found["expected_signature"] == found["given_signature"] == SIGNATURE
    found = json.loads(verify("--json", body=b"{}").out)
    assert (found["verified"], found["code"]) == (False, "no_match")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": BODY + b"\n"}, "The body has a line break at its end that was not sent"),
        (signed(b'{"a":\n1}', body=b'{"a":\r\n1}'), "The line breaks of the body were changed"),
        (signed('{"a":"ü"}'.encode(), body=b'{"a": "\\u00fc"}'), "The body was parsed and written again"),
        ({"body": b"{}"}, "Either the secret is another one"),
        ({"body": b'"\\ud800"'}, "Either the secret is another one"),
        ({"body": b"\xff\x00"}, "Either the secret is another one"),
        ({"secret": signing.generate_secret()}, "Either the secret is another one"),
        ({"id_": "msg_other"}, "Either the secret is another one"),
        ({"now": "2021-02-25T17:02:10Z"}, "signed 7200 s ago"),
        ({"now": "2021-02-25T17:02:10Z"}, "The signature itself fits. To check the request as of when it was signed"),
        ({"now": "2021-02-25T17:02:10Z"}, "--now 2021-02-25T15:02:10.000000Z"),
        ({"now": None, "body": b"{}"}, "The signature does not fit either"),
        ({"now": "2021-02-25T14:02:10Z"}, "signed 3600 s in the future"),
        ({"id_": None}, "The header webhook-id is missing"),
        ({"timestamp": None}, "The header webhook-timestamp is missing"),
        ({"signature": None}, "The header webhook-signature is missing"),
        ({"timestamp": "noon"}, "webhook-timestamp must be whole seconds since 1970"),
        ({"timestamp": "999999999999"}, "in the future"),
        ({"signature": "g0hM9SsE"}, "webhook-signature must hold pairs such as v1,<base64>"),
        ({"signature": "v2,g0hM9SsE"}, "None of the 0 v1 signatures fits"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(verify, changes, words):
    ended = verify(**changes)
    assert ended.code == 1
    assert words in ended.err
    assert "The signature fits" not in ended.out


def test_the_old_and_the_new_secret_of_a_rotation(verify):
    assert verify("--secret", signing.generate_secret()).code == 0


def test_the_secret_may_come_from_the_environment(verify, monkeypatch):
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    assert verify(secret=None).code == 0
    monkeypatch.delenv("WEBHOOK_SECRET")
    assert "A secret is needed" in verify(secret=None).err


@pytest.mark.parametrize(
    "text",
    [
        f"POST /hook HTTP/1.1\r\nHost: a.test\r\nWebhook-Id: {ID}\r\nWebhook-Timestamp: {TIMESTAMP}\r\n"
        f"Webhook-Signature: {SIGNATURE}\r\n\r\nwebhook-id: of the body",
        f"webhook-id:{ID}\nwebhook-timestamp:{TIMESTAMP}\nwebhook-signature:{SIGNATURE}\n",
        json.dumps({"Webhook-Id": ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE}),
    ],
)
def test_headers_from_a_file(verify, tmp_path, text):
    (tmp_path / "headers").write_bytes(text.encode())
    nothing = {"id_": None, "timestamp": None, "signature": None}
    assert verify("--headers", tmp_path / "headers", **nothing).code == 0
    assert verify("--headers", tmp_path / "headers", **{**nothing, "id_": "msg_other"}).code == 1


def test_the_body_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(BODY)))
    arguments = ["--secret", SECRET, "--id", ID, "--timestamp", TIMESTAMP, "--signature", SIGNATURE, "--now", THEN]
    assert manage("webhook_verify", *arguments, "--body", "-").code == 0


def test_what_the_terminal_shows_is_what_is_signed(verify):
    out = verify(**signed(b"a\n\x1b[31m\xff", body=b"a\n\x1b[31m\xff")).out
    assert "\x1b" not in out
    assert r".a\n\x1b[31m\xff" in out


def test_a_large_body_is_cut_on_the_screen_but_checked_whole(verify):
    body = b"x" * 90_000
    ended = verify(**signed(body, body=body))
    assert ended.code == 0
    assert "… (cut here)" in ended.out
    assert len(ended.out) < 6000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--secret", "whsec_" + "hunter2!"], "A secret is whsec_ followed by base64 text."),
        (["--secret", "whsec_aGk="], "A secret holds 24 to 64 bytes; this one has 2."),
        (["--headers", "/nowhere"], "Cannot read /nowhere: No such file or directory."),
        (["--now", "noon"], "'noon' is not an ISO date or time"),
        (["--headers", "{broken}"], "The headers look like JSON but are not valid."),
        (["--headers", "-"], "Headers and body cannot both come from standard input."),
        (["--body", "{large}"], "is larger than 1,000,000 bytes"),
    ],
)
def test_bad_arguments(tmp_path, arguments, words):
    (tmp_path / "broken").write_text("{")
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    files = {"{broken}": tmp_path / "broken", "{large}": tmp_path / "large"}
    ended = manage("webhook_verify", "--secret", SECRET, "--body", "-", *(files.get(it, it) for it in arguments))
    assert ended.code == 1
    assert words in ended.err
    assert "hunter2" not in ended.err
