"""What became of a call, in plain words: for the owner of an endpoint, who sees our side of it only.

A diagnosis reads on from "The receiver …" or "The endpoint …", has no capital or full stop, and fits the 300 characters
of its column.
"""

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from urllib3.exceptions import HTTPError

MAX_LENGTH = 300


class Failure(NamedTuple):
    """Why no whole answer came. The codes are those the functions below return, and DestinationRefused's."""

    code: str
    diagnosis: str
    timed_out: bool = False


class CallFailed(Exception):
    """Raised where the reason is known best; neither an OSError nor a RequestException, so nobody wraps it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.diagnosis)
        self.failure = failure


def of_status(status: int) -> str:
    """A whole answer: what its status means to us."""
    if 200 <= status < 300:
        return f"answered {status}"
    if status in _REDIRECTS:
        return f"answered {status}, redirects are not followed"
    meaning = _STATUS_MEANINGS.get(status)
    if meaning is None and status >= 500:
        meaning = "an error on the receiver's side"
    return f"answered {status}, {meaning}" if meaning else f"answered {status} instead of 2xx"


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STATUS_MEANINGS = {
    401: "it wants credentials that the webhook does not have",
    403: "it refused the webhook",
    404: "there is nothing at this path",
    405: "it does not take POST at this path",
    410: "the receiver is gone for good",
    413: "the body is too large for it",
    415: "it does not take JSON",
    429: "it is getting more than it wants",
    502: "a proxy got no good answer from the receiver behind it",
    503: "it is overloaded or being repaired",
    504: "a proxy got no answer in time from the receiver behind it",
}


def of_resolution(error: Exception, host: str) -> Failure:
    """The name could not be looked up."""
    if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
        return Failure("dns_not_found", f"there is no address for {host}, the name does not exist")
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Failure("dns_failed", f"the name servers gave no answer for {host}, it may be a passing trouble")
    return Failure("dns_failed", f"the name {host} could not be looked up")


def of_connection(error: OSError, seconds: float) -> Failure:
    """No address of the receiver took the connection, the last one within `seconds`."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return Failure("connect_timeout", f"did not take the connection within {seconds:.3g} s", timed_out=True)
    if isinstance(error, ConnectionRefusedError):
        return Failure("connect_refused", "refused the connection, nothing is listening on this port")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return Failure("connect_unreachable", "cannot be reached from here, there is no route to its address")
    return Failure("connect_failed", f"the connection failed ({_system_words(error)})")


def of_certificate(error: ssl.SSLCertVerificationError, certificate: bytes | None, host: str, now: datetime) -> Failure:
    """The certificate was not accepted; `certificate` is what was presented (DER), where it is known."""
    presented = _load(certificate)
    return Failure("tls_certificate", _certificate_words(error, presented, host, now))


def of_handshake(error: OSError, seconds: float) -> Failure:
    """TLS could not be set up in `seconds`, for another reason than the certificate."""
    if isinstance(error, TimeoutError):
        return Failure("tls_timeout", f"did not finish the TLS handshake within {seconds:g} s", timed_out=True)
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return Failure("tls_failed", "does not speak TLS on this port, though the URL says https")
    if reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"):
        return Failure("tls_failed", "only speaks TLS versions older than 1.2, which are broken")
    if reason:
        return Failure("tls_failed", f"the TLS handshake failed ({reason.replace('_', ' ').lower()})")
    return Failure("tls_failed", "closed the connection during the TLS handshake")


def of_answer(error: Exception, *, status: int | None) -> Failure | None:
    """The connection was there, the answer was not, or not whole (`status` came, the rest did not).

    None for an error that no receiver should be able to cause.
    """
    if not isinstance(error, OSError | http.client.HTTPException | HTTPError):  # all of requests' are OSErrors
        return None
    causes = list(_causes(error))
    if any(isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError) for cause in causes):
        # RemoteDisconnected is a ConnectionResetError too: an orderly close where the answer should have been.
        if any(isinstance(cause, http.client.RemoteDisconnected) for cause in causes):
            return Failure("closed_without_answer", "closed the connection without answering")
        return Failure("connection_reset", "reset the connection" + _after(status))
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Failure("tls_failed", "broke the TLS connection" + _after(status))
    if status is not None:
        return Failure("answer_cut_off", f"answered {status}, but the rest of the answer is missing or garbled")
    if any(isinstance(cause, http.client.HTTPException | ValueError) for cause in causes):
        return Failure("answer_malformed", "answered something that is not HTTP")
    return Failure("connection_failed", "the connection broke before an answer came")


def _after(status: int | None) -> str:
    return " before answering" if status is None else f" after answering {status}, in the middle of the answer"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything that requests and urllib3 have wrapped in it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inside = (found.__cause__, found.__context__, getattr(found, "reason", None), *found.args)
        waiting.extend(one for one in inside if isinstance(one, BaseException))


def _system_words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


# --- Certificates ----------------------------------------------------------------------------------------------------

# OpenSSL's X509_V_ERR_* (x509_vfy.h); the `ssl` module gives the numbers but no names.
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED, _SELF_SIGNED_IN_CHAIN = 18, 19
_NO_ISSUER, _NO_FIRST_SIGNATURE = 20, 21
_WRONG_NAME, _WRONG_ADDRESS = 62, 64


def _certificate_words(
    error: ssl.SSLCertVerificationError, presented: x509.Certificate | None, host: str, now: datetime
) -> str:
    match error.verify_code:
        # The expired one may be an authority's, further up the chain than the one presented.
        case code if code == _EXPIRED:
            if presented is not None and presented.not_valid_after_utc < now:
                return f"the certificate expired {span(now - presented.not_valid_after_utc)} ago"
            return "the certificate has expired"
        case code if code == _NOT_YET_VALID:
            if presented is not None and presented.not_valid_before_utc > now:
                return f"the certificate is only valid in {span(presented.not_valid_before_utc - now)}"
            return "the certificate is not valid yet"
        case code if code in (_WRONG_NAME, _WRONG_ADDRESS):
            names = _names(presented)
            return f"the certificate is not for {host}" + (f" but for {names}" if names else "")
        case code if code == _SELF_SIGNED:
            return "the certificate is self-signed, so anyone could have made it"
        case code if code in (_SELF_SIGNED_IN_CHAIN, _NO_ISSUER, _NO_FIRST_SIGNATURE):
            return "the certificate comes from an authority that is not trusted here, or an intermediate one is missing"
    return f"the certificate was not accepted ({error.verify_message or error.reason})"


def _load(certificate: bytes | None) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(certificate) if certificate else None
    except ValueError:
        return None


def _names(certificate: x509.Certificate | None) -> str:
    if certificate is None:
        return ""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return ", ".join(found[:3]) + (" and others" if len(found) > 3 else "")


def span(length: timedelta) -> str:
    """A length of time in its largest unit: "2 days"."""
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(length.total_seconds() // seconds)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
