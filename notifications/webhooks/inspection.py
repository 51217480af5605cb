"""A captured request, looked at closely: what was signed, what the signature should be, and what is wrong with it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from notifications.payloads import encode
from notifications.timestamps import iso
from notifications.webhooks import signing
from notifications.webhooks.signing import VerificationError


@dataclass(frozen=True)
class Finding:
    """Whether the request is what it claims to be, and everything needed to see why.

    `code` and `words` are those of VerificationError (`verified` when there is none); `hints` are guesses that were
    tried out. `signed` and `expected` are empty where id or timestamp are missing, since they are part of both.
    """

    code: str
    words: str
    hints: tuple[str, ...]
    signed: bytes
    expected: tuple[str, ...]  # one for each secret

    @property
    def verified(self) -> bool:
        return self.code == "verified"


def inspect(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> Finding:
    """Check a request as of `now` (seconds since 1970). SecretError for a secret that is none."""
    given = {name.lower(): value.strip() for name, value in headers.items()}
    signed, expected = _expected(secrets, given, body)
    try:
        signing.verify(secrets, given, body, now)
    except VerificationError as error:
        return Finding(error.code, error.message, tuple(_hints(error, secrets, given, body)), signed, expected)
    return Finding("verified", "The signature fits, and the message is recent.", (), signed, expected)


def sent_at(headers: Mapping[str, str]) -> datetime | None:
    """The moment that `webhook-timestamp` speaks of, or None when it speaks of none."""
    text = headers.get(signing.TIMESTAMP_HEADER, "")
    if not (text.isascii() and text.isdigit()):
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def _expected(secrets: Sequence[str], given: Mapping[str, str], body: bytes) -> tuple[bytes, tuple[str, ...]]:
    message_id, moment = given.get(signing.ID_HEADER), sent_at(given)
    if not message_id or moment is None:
        return b"", ()
    timestamp = int(moment.timestamp())
    signatures = signing.sign(secrets, message_id, timestamp, body)
    return signing.signed_content(message_id, timestamp, body), tuple(signatures.split())


def _hints(error: VerificationError, secrets: Sequence[str], given: Mapping[str, str], body: bytes) -> Iterator[str]:
    if error.code == "missing_header":
        yield "Something between sender and receiver may drop headers that it does not know."
    moment = sent_at(given)
    if moment is None or error.code not in ("too_old", "too_new", "no_match"):
        return
    if error.code != "no_match":
        if _fits(secrets, given, body, moment):
            yield f"The signature itself fits. To check the request as of when it was signed: --now {iso(moment)}"
            return
        yield "The signature does not fit either."
    for variant, hint in _variants(body):
        if variant != body and _fits(secrets, given, variant, moment):
            yield hint
            return
    yield (
        "Either the secret is another one (a new URL and a rotation each bring a new secret), or the id, the timestamp "
        "or the body is not the one that was sent."
    )


def _fits(secrets: Sequence[str], given: Mapping[str, str], body: bytes, moment: datetime) -> bool:
    try:
        signing.verify(secrets, given, body, moment.timestamp())
    except VerificationError:
        return False
    return True


def _variants(body: bytes) -> Iterator[tuple[bytes, str]]:
    """What a body may have been before something on its way changed it, and the change in words."""
    yield body.rstrip(b"\r\n"), "The body has a line break at its end that was not sent: editors and `echo` add one."
    yield body.replace(b"\r\n", b"\n"), "The line breaks of the body were changed from LF to CRLF."
    try:
        again = encode(json.loads(body)).encode()
    except (ValueError, RecursionError):
        return
    yield again, "The body was parsed and written again. Only the raw bytes of the request can be verified."
