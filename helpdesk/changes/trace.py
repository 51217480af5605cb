"""What led to a change: a trace of opaque ids, which a caller may send along in the header `helpdesk-trace`.

Whoever gives a trace away seals it: it is signed and carries its time. So nobody can make one up, nor use one that was
meant for something else long ago. A trace is a hint and never a reason to refuse a change: what is not ours, or too
old, counts for nothing, and the answer says so in the same header.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.http import HttpRequest, HttpResponse

HEADER = "helpdesk-trace"
# A trace keeps the newest of its ids. A circle that takes more steps than that is none we could recognise by it.
MAX_IDS = 20
# Longer than any receiver should need to react, and short enough that an old trace is of no use to whoever kept one.
MAX_AGE = timedelta(hours=1)
# What `seal` can make of twenty ids of a webhook's length, and some room.
MAX_LENGTH = 2000

ACCEPTED, EXPIRED, UNREADABLE = "accepted", "expired", "unreadable"

_SEPARATOR = ","
_trace: ContextVar[tuple[str, ...]] = ContextVar("trace", default=())


def current_trace() -> tuple[str, ...]:
    """The ids that led to what this code does, the oldest first; empty when nobody said so."""
    return _trace.get()


@contextmanager
def led_by(ids: Sequence[str]) -> Iterator[None]:
    """Everything changed inside the block was led to by `ids`."""
    token = _trace.set(tuple(ids))
    try:
        yield
    finally:
        _trace.reset(token)


def seal(ids: Sequence[str]) -> str:
    """The header's value for these ids, of which the newest are kept. They are printable and have no comma."""
    return _signer().sign(_SEPARATOR.join(ids[-MAX_IDS:]))


def unseal(value: str) -> tuple[tuple[str, ...], str]:
    """The ids of a header, and `accepted`, `expired` or `unreadable`; no ids unless it is accepted."""
    if len(value) > MAX_LENGTH:
        return (), UNREADABLE
    try:
        text = _signer().unsign(value.strip(), max_age=MAX_AGE)
    except SignatureExpired:
        return (), EXPIRED
    except BadSignature:
        return (), UNREADABLE
    return tuple(text.split(_SEPARATOR)), ACCEPTED


def _signer() -> TimestampSigner:
    return TimestampSigner(salt="helpdesk.changes.trace")


class TraceMiddleware:
    """A request's trace belongs to all that the request changes. The answer's header tells what became of it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        value = request.headers.get(HEADER)
        if value is None:
            return self.get_response(request)
        ids, verdict = unseal(value)
        with led_by(ids):
            response = self.get_response(request)
        response[HEADER] = verdict
        return response
