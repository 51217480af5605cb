"""The one function that calls out of this project.

Nothing else may import requests (a lint rule says so), because the address guard lives here and below.
"""

import codecs
import logging
import re
import time
import traceback
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import requests  # noqa: TID251 - this is the place
from requests.hooks import default_hooks  # noqa: TID251
from requests.structures import CaseInsensitiveDict  # noqa: TID251

from notifications.webhooks import diagnosis, guard
from notifications.webhooks.destination import DestinationRefused, Policy, check, parse
from notifications.webhooks.diagnosis import CallFailed, Failure
from notifications.webhooks.schedule import parse_retry_after

logger = logging.getLogger(__name__)

# Sent unless the caller says otherwise. `identity`, because a compressed answer could unfold to any size.
DEFAULT_HEADERS = {
    "User-Agent": "helpdesk-webhooks/1",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
}

# How much of an answer's head is kept for people to read, in characters.
MAX_HEAD_KEPT = 8 * 1024

# Idle connections a session keeps: to so many hosts, so many each. Several endpoints may share one. With the attempts
# that are under way (320 as it comes) they are fewer than the 1,024 files that most systems let a process open.
KEPT_HOSTS = 40
KEPT_CONNECTIONS_PER_HOST = 16


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One POST and what came of it.

    With `error` None a whole answer came, whatever its status, and a body that is longer than what is kept counts as
    whole. Otherwise `error` is a code of `diagnosis` or `destination`, and `status`, head and body are what had come by
    then. Times are milliseconds, each of one phase; None where there was no such phase, as on a kept connection.
    """

    status: int | None = None
    error: str | None = None
    diagnosis: str
    timed_out: bool = False
    retry_after: float | None = None  # seconds
    address: str | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None  # from the connection being there to the first byte of the answer
    total_ms: float
    response_head: str = ""
    response_body: str = ""
    truncated: bool = False


# Connections that are kept from call to call, all of them guarded. Made by `open_session`.
Session = requests.Session


def open_session(policy: Policy) -> Session:
    """A session for `post`. Threads may share it: what belongs to one call is not kept in it.

    OSError or ssl.SSLError when the policy's `ca_bundle` cannot be read.
    """
    session = Session()
    session.trust_env = False  # else .netrc would give credentials away, and *_PROXY would take the call elsewhere
    session.adapters.clear()
    adapter = guard.GuardedAdapter(
        guard.tls_context(policy.ca_bundle), hosts=KEPT_HOSTS, connections_per_host=KEPT_CONNECTIONS_PER_HOST
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def post(
    session: Session,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    policy: Policy,
    *,
    person: Hashable = None,
    resolver: guard.Resolver = guard.system_resolver,
) -> Exchange:
    """POST `body` to `url` within `policy` and tell what came of it.

    Never raises for anything that the URL, the headers, the network or the receiver does. `session` comes from
    `open_session` with the same policy; `person` is whose endpoint it is. Redirects are not followed, nothing is
    sent twice.
    """
    call = guard.Call(policy, resolver, person)
    answer = _Answer()
    failure = None
    try:
        request = _prepare(url, body, headers, policy)
        with call.under_way():
            # Straight to the adapter. What a session does besides is looking for cookies, which would have receivers
            # recognise one another, and for redirects, whose whole body it reads even if they lead nowhere.
            adapter = session.get_adapter(request.url or "")
            response = adapter.send(request, stream=True, verify=True, timeout=None)
            try:
                answer.read(response, policy.max_body_bytes)
            finally:
                response.close()
    except DestinationRefused as refusal:
        failure = Failure(refusal.code, refusal.message)
    except CallFailed as failed:
        failure = failed.failure
    except Exception as error:
        failure = _failure(error, call, answer)
    words = failure.diagnosis if failure else diagnosis.of_status(cast(int, answer.status))
    return Exchange(
        status=answer.status,
        error=failure and failure.code,
        diagnosis=_text(words, diagnosis.MAX_LENGTH),
        timed_out=failure is not None and failure.timed_out,
        retry_after=parse_retry_after(answer.retry_after, time.time()),
        address=call.address,
        dns_ms=call.dns_ms,
        connect_ms=call.connect_ms,
        tls_ms=call.tls_ms,
        first_byte_ms=call.first_byte_ms,
        total_ms=guard.elapsed_ms(call.started),
        response_head=_text(answer.head, MAX_HEAD_KEPT),
        response_body=answer.text(),
        truncated=answer.truncated,
    )


def _prepare(url: str, body: bytes, headers: Mapping[str, str], policy: Policy) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = "POST"
    request.hooks = default_hooks()
    try:
        request.url = _prepared_url(url, policy)
        # What http.client can send, and would send as something else.
        text = "\t".join([*headers, *headers.values()])
        text.encode("latin-1")
        if _BREAKS_A_HEADER.search(text):
            raise ValueError("a header with a line break in it")
    except (requests.RequestException, ValueError) as error:
        raise CallFailed(
            Failure("request_invalid", f"cannot be called with such headers ({type(error).__name__})")
        ) from error
    request.headers = CaseInsensitiveDict({**DEFAULT_HEADERS, **headers, "Content-Length": str(len(body))})
    request.body = body
    return request


_BREAKS_A_HEADER = re.compile(r"[\r\n\0]")


@lru_cache(maxsize=4096)
def _prepared_url(url: str, policy: Policy) -> str:
    """The URL as requests will call it; DestinationRefused for what may not be called. The same for the same policy."""
    destination = parse(url, policy.max_url_length)
    check(destination, policy)
    request = requests.PreparedRequest()
    request.prepare_url(destination.url, None)
    prepared = parse(request.url or "", policy.max_url_length * 3)  # quoting may lengthen it
    # What we checked is what requests will call, or nothing is called.
    if prepared.origin != destination.origin:
        raise DestinationRefused("url_ambiguous", "the URL can be read in more than one way")
    return request.url or ""


def _failure(error: Exception, call: guard.Call, answer: "_Answer") -> Failure:
    if call.expired:
        within = f"within {call.policy.deadline:g} s"
        did_not = f"did not answer {within}" if answer.status is None else f"did not finish its answer {within}"
        return Failure("timeout", did_not, timed_out=True)
    failure = diagnosis.of_answer(error, status=answer.status)
    if failure is None:
        # Ours, then. The frames without the message, which may contain the URL and the secrets in it.
        logger.error("A webhook call failed with %s:\n%s", type(error).__name__, _frames(error))
        failure = Failure("unexpected", f"the call failed for a reason of our own ({type(error).__name__})")
    return failure


def _frames(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__))


@dataclass
class _Answer:
    """An answer as far as it has come."""

    status: int | None = None
    head: str = ""
    retry_after: str | None = None
    body: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def read(self, response: requests.Response, limit: int) -> None:
        """Take in `response`, of its body at most `limit` bytes; raises what reading raises, keeping what had come."""
        raw = response.raw
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")
        lines = [f"{raw.version_string} {raw.status} {raw.reason or ''}".rstrip()]
        lines += [f"{name}: {value}" for name, value in raw.headers.items()]
        self.head = "\n".join(lines)
        # One read beyond the limit tells a body that fills it from one that exceeds it.
        while len(self.body) <= limit:
            chunk = raw.read1(limit + 1 - len(self.body), decode_content=False)
            if not chunk:
                return
            self.body += chunk
        self.truncated = True
        del self.body[limit:]

    def text(self) -> str:
        """The body as text, whatever it is; a character that the limit cut through is left out."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return _text(decoder.decode(bytes(self.body), final=not self.truncated))


def _text(text: str, limit: int | None = None) -> str:
    """Fit for a text column: PostgreSQL takes no NUL."""
    return text.replace("\0", "")[:limit]
