"""Standard Webhooks signatures, symmetric variant (https://www.standardwebhooks.com, specification 1.0).

A message is signed with HMAC-SHA256 over `id.timestamp.body`, the body being the exact bytes on the wire. Three headers
carry it: `webhook-id` (the same on every retry), `webhook-timestamp` (whole seconds since 1970, of this attempt) and
`webhook-signature` (`v1,<base64>`, several separated by spaces while a secret is being rotated).
"""

import base64
import binascii
import hmac
import re
import secrets as randomness
from collections.abc import Mapping, Sequence

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

SECRET_PREFIX = "whsec_"  # noqa: S105 - the mark of a secret, not one
SECRET_BYTES = 32
# The specification's bounds for the random bytes of a secret.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64

# How far the clocks of sender and receiver may lie apart, in seconds: the reference libraries' value.
TOLERANCE = 300

_VERSION = "v1"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class SecretError(ValueError):
    """A secret is not `whsec_` followed by the base64 of 24 to 64 bytes. The message never repeats the secret."""


class VerificationError(Exception):
    """A message is not what it claims to be.

    `code`: `missing_header`, `malformed_timestamp`, `too_old`, `too_new`, `malformed_signature` or `no_match`.
    `message`: one plain sentence for the person who debugs a receiver.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def generate_secret() -> str:
    """A new secret: `whsec_` and the base64 of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def decode_secret(secret: str) -> bytes:
    """The key inside `secret`, with or without prefix and padding; SecretError when there is none."""
    encoded = secret.strip().removeprefix(SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError(f"A secret is {SECRET_PREFIX} followed by base64 text.") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise SecretError(f"A secret holds {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; this one has {len(key)}.")
    return key


def signed_content(message_id: str, timestamp: int, body: bytes) -> bytes:
    """The bytes that are signed, also for showing them to whoever looks for the difference."""
    return f"{message_id}.{timestamp}.".encode() + body


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret, in their order.

    Rotation signs with the new and the old secret, so that a receiver may change at any moment of the overlap.
    """
    content = signed_content(message_id, timestamp, body)
    return " ".join(_signature(secret, content) for secret in secrets)


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float, tolerance: int = TOLERANCE
) -> None:
    """Return when one of `secrets` signed `body` within `tolerance` seconds of `now`, else raise VerificationError.

    Header names are compared without regard to case. Versions other than `v1` are passed over, as the specification
    asks, so that a sender may add new kinds of signature. SecretError for a secret that is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (_required(given, n) for n in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    sent_at = _timestamp(timestamp)
    if sent_at < now - tolerance:
        raise VerificationError(
            "too_old", f"The message was signed {now - sent_at:.0f} s ago; {tolerance} s are allowed."
        )
    if sent_at > now + tolerance:
        raise VerificationError(
            "too_new", f"The message was signed {sent_at - now:.0f} s in the future; {tolerance} s are allowed."
        )
    candidates = _candidates(signatures)
    content = signed_content(message_id, sent_at, body)
    expected = [_signature(secret, content).encode() for secret in secrets]
    # Every pair is compared, each in constant time, so that timing tells neither how much nor which one was right.
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in candidates]
    if not any(matches):
        raise VerificationError(
            "no_match", f"None of the {len(candidates)} {_VERSION} signatures fits the id, the timestamp and the body."
        )


def _signature(secret: str, content: bytes) -> str:
    digest = hmac.digest(decode_secret(secret), content, "sha256")
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise VerificationError("missing_header", f"The header {name} is missing.")
    return value


def _timestamp(text: str) -> int:
    if not _TIMESTAMP.fullmatch(text):
        raise VerificationError("malformed_timestamp", f"{TIMESTAMP_HEADER} must be whole seconds since 1970.")
    return int(text)


def _candidates(signatures: str) -> list[bytes]:
    pairs = [token.partition(",") for token in signatures.split()]
    if not all(version and signature for version, _, signature in pairs):
        raise VerificationError("malformed_signature", f"{SIGNATURE_HEADER} must hold pairs such as v1,<base64>.")
    # Bytes, because compare_digest refuses text outside ASCII, which a forged header may well contain.
    return [f"{v},{s}".encode(errors="replace") for v, _, s in pairs if v == _VERSION]
