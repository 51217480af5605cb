"""Whether a receiver does what a receiver must: takes what we send, and refuses what we did not.

Real requests through the guard, but no deliveries: nothing is recorded, nothing is tried again. They speak of a
`webhook_test`, so that a receiver that takes one it should refuse does no work either.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import time
from uuid import uuid4

from django.utils import timezone

from notifications import payloads
from notifications.catalogue import WEBHOOK_TEST
from notifications.timestamps import iso
from notifications.webhooks import http, signing
from notifications.webhooks.destination import Policy
from notifications.webhooks.http import Exchange
from notifications.webhooks.policy import current_policy
from notifications.webhooks.schedule import Verdict, classify

# A receiver that needs longer has little left of its 15 seconds when its database is busy, milliseconds.
COMFORTABLE_MS = 5000
# How old a message is that every receiver must refuse, seconds: well beyond the tolerance, whatever the clocks say.
STALE = 12 * signing.TOLERANCE


@dataclass(frozen=True)
class Check:
    """One thing a receiver must do. `code` is stable; `advice` is empty where it passed."""

    code: str
    question: str
    passed: bool
    answer: str
    advice: str


@dataclass(frozen=True)
class _Message:
    """A request that differs from an honest one in one way."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Case:
    code: str
    question: str
    make: Callable[[list[str], str], _Message]  # from secrets and a webhook-id
    is_taken: bool
    advice: str


def check(
    url: str, secrets: list[str], policy: Policy | None = None, own_headers: Mapping[str, str] | None = None
) -> list[Check]:
    """Ask a receiver everything, one request after the other. `secrets`: those it knows, the newest first.

    `own_headers` go with every request, those that must be refused too: what stands before the receiver lets nothing
    pass without them, and would answer in its place.

    A dozen requests, the first within the total deadline and the others within COMFORTABLE_MS, so that a receiver
    that hangs is done with in about a minute. When the honest one does not arrive, the rest says nothing and is not
    asked.
    """
    policy = policy or current_policy()
    brief = replace(policy, deadline=min(policy.deadline, COMFORTABLE_MS / 1000))
    with http.open_session(policy) as session:

        def ask(message: _Message, policy: Policy = brief) -> Exchange:
            return http.post(session, url, message.body, {**(own_headers or {}), **message.headers}, policy)

        honest = _message(secrets, f"msg_{uuid4().hex}")
        first = ask(honest, policy)
        found = [_arrival(first)]
        if not found[0].passed:
            return found
        found.append(_pace(first))
        found.append(_repetition(ask(honest)))
        for case in _CASES:
            found.append(_judged(case, ask(case.make(secrets, f"msg_{uuid4().hex}"))))
    return found


# --- The requests ---------------------------------------------------------------------------------------------------


def _body(type_: str = WEBHOOK_TEST, **extra: object) -> bytes:
    now, id_ = iso(timezone.now()), uuid4()
    head = payloads.notification_head(uuid4(), type_, "A check of your receiver", id_, "webhook", now)
    whole = {"event": "notification.created", "notification": {**head, **extra}, "data": {"id": str(id_), **extra}}
    return payloads.encode({**whole, **extra}).encode()


def _message(secrets: list[str], message_id: str, body: bytes | None = None, age: int = 0) -> _Message:
    body = _body() if body is None else body
    timestamp = int(time()) - age
    return _Message(
        {
            signing.ID_HEADER: message_id,
            signing.TIMESTAMP_HEADER: str(timestamp),
            signing.SIGNATURE_HEADER: signing.sign(secrets, message_id, timestamp, body),
        },
        body,
    )


def _rotating(secrets: list[str], message_id: str) -> _Message:
    return _message([signing.generate_secret(), *secrets], message_id)


def _of_the_future(secrets: list[str], message_id: str) -> _Message:
    return _message(secrets, message_id, _body("a_type_that_comes_next_year", a_field_that_comes_next_year=[1, None]))


def _unsigned(secrets: list[str], message_id: str) -> _Message:
    return _Message({}, _body())


def _without_signature(secrets: list[str], message_id: str) -> _Message:
    signed = dict(_message(secrets, message_id).headers)
    del signed[signing.SIGNATURE_HEADER]
    return _Message(signed, _body())


def _of_another(secrets: list[str], message_id: str) -> _Message:
    return _message([signing.generate_secret()], message_id)


def _changed_body(secrets: list[str], message_id: str) -> _Message:
    message = _message(secrets, message_id)
    return _Message(message.headers, message.body.replace(b"A check of your", b"A change of your"))


def _changed_id(secrets: list[str], message_id: str) -> _Message:
    message = _message(secrets, message_id)
    return _Message({**message.headers, signing.ID_HEADER: f"msg_{uuid4().hex}"}, message.body)


def _stale(secrets: list[str], message_id: str) -> _Message:
    return _message(secrets, message_id, age=STALE)


def _early(secrets: list[str], message_id: str) -> _Message:
    return _message(secrets, message_id, age=-STALE)


_RAW_BYTES = "Verify the signature over webhook-id, webhook-timestamp and the raw bytes of the body before you read it."
_CLOCK = (
    "Refuse what is signed for a time more than five minutes away from your clock, or old messages can be replayed."
)

_CASES = (
    _Case(
        "rotation",
        "Does it take a message with two signatures, the second of which fits?",
        _rotating,
        True,
        "While a secret is being changed both sign: split webhook-signature at its spaces and take any that fits.",
    ),
    _Case(
        "unknown_type",
        "Does it take a type and fields that it does not know?",
        _of_the_future,
        True,
        "New types and fields come without notice: answer 200 and leave aside what you do not know.",
    ),
    _Case("unsigned", "Does it refuse a request without any of our headers?", _unsigned, False, _RAW_BYTES),
    _Case("no_signature", "Does it refuse a request without webhook-signature?", _without_signature, False, _RAW_BYTES),
    _Case("bad_signature", "Does it refuse a signature by another secret?", _of_another, False, _RAW_BYTES),
    _Case("changed_body", "Does it refuse a body that was changed on its way?", _changed_body, False, _RAW_BYTES),
    _Case("changed_id", "Does it refuse a message under another webhook-id?", _changed_id, False, _RAW_BYTES),
    _Case("stale", "Does it refuse a message that was signed an hour ago?", _stale, False, _CLOCK),
    _Case("early", "Does it refuse a message that is signed for an hour from now?", _early, False, _CLOCK),
)


# --- The judgements -------------------------------------------------------------------------------------------------


def _arrival(exchange: Exchange) -> Check:
    passed = classify(exchange) is Verdict.DELIVERED
    advice = "" if passed else "This must work first: answer a webhook that is signed as it should be with 200."
    return Check("honest", "Does it take an honest message?", passed, exchange.diagnosis, advice)


def _pace(exchange: Exchange) -> Check:
    passed = exchange.total_ms <= COMFORTABLE_MS
    return Check(
        "pace",
        f"Does it answer within {COMFORTABLE_MS // 1000} s?",
        passed,
        f"answered in {exchange.total_ms:.0f} ms",
        "" if passed else "Put the message into a queue of your own, answer, and do the work after that.",
    )


def _repetition(exchange: Exchange) -> Check:
    passed = classify(exchange) is Verdict.DELIVERED
    return Check(
        "repetition",
        "Does it answer 2xx when the same webhook-id comes again? (That it does the work only once cannot be seen.)",
        passed,
        exchange.diagnosis,
        "" if passed else "Answer a repetition with 200, or it is tried again for three days.",
    )


def _judged(case: _Case, exchange: Exchange) -> Check:
    if case.is_taken:
        passed = classify(exchange) is Verdict.DELIVERED
    else:
        # A refusal is an answer: one that breaks instead is tried again, and hides the forgery from whoever looks.
        passed = exchange.error is None and exchange.status is not None and 400 <= exchange.status < 500
    advice = "" if passed else case.advice
    if not passed and not case.is_taken and exchange.status is not None and exchange.status >= 500:
        advice = "It failed instead of refusing: answer what you do not take with 401."
    return Check(case.code, case.question, passed, exchange.diagnosis, advice)
