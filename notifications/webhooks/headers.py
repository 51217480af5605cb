"""Headers of an endpoint's own: an API key for a gateway, say, sent with every request besides ours.

What may not be set: what belongs to the connection or to the body (RFC 9110 §7.6.1 and §8), what we sign or identify
ourselves with, and cookies, which are somebody's session and not a credential to be kept.
"""

import json
import re
from collections.abc import Iterator, Mapping

MAX_HEADERS = 20
MAX_NAME = 100
MAX_VALUE = 4000
# Of names and values together: many receivers take no more than 8 or 16 KiB of headers, and ours need room besides.
MAX_TOTAL = 6000

_RESERVED = {
    "host": "it follows from the URL",
    "user-agent": "it says who is calling",
    "cookie": "sessions are not sent; use Authorization or a header of your own",
    "accept-encoding": "answers are taken as they are",
    "proxy": "webhooks are not sent through a proxy",
    "http2-settings": "it belongs to the connection",
    **dict.fromkeys(
        ("connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        "it belongs to the connection",
    ),
}
_RESERVED_PREFIXES = {
    "content-": "it describes the body, which is ours",
    "proxy-": "webhooks are not sent through a proxy",
    "webhook-": "it carries the signature",
    "helpdesk-": "it is one of ours",
}

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110 §5.6.2
# RFC 9110 §5.5 as far as one byte stands for one character: printable ASCII and Latin-1, spaces and tabs inside only.
_VALUE = re.compile(r"[!-~\xa0-\xff](?:[ \t!-~\xa0-\xff]*[!-~\xa0-\xff])?")


class HeadersRefused(ValueError):
    """Headers that cannot be sent. `problems` are sentences for people and never repeat a value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def merged(given: Mapping[str, str | None], kept: Mapping[str, str]) -> dict[str, str]:
    """The headers that `given` asks for. None stands for the value that is there already, in `kept`.

    What is not named is gone. Names are compared without regard to case. Raises HeadersRefused with all that is wrong.
    """
    known = {name.lower(): value for name, value in kept.items()}
    found: dict[str, str] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for name, value in given.items():
        problem = _problem_of_name(name)
        if problem is None and name.lower() in seen:
            problem = f"{name} is there twice; upper and lower case are the same."
        seen.add(name.lower())
        if problem is None and value is None:
            value = known.get(name.lower())
            problem = None if value is not None else f"{name} has no value yet that could be kept: give it one."
        if problem is None and value is not None:
            problem = _problem_of_value(name, value)
        if problem is not None:
            problems.append(problem)
        elif value is not None:
            found[name] = value
    if len(given) > MAX_HEADERS:
        problems.append(f"At most {MAX_HEADERS} headers can be set.")
    elif sum(len(name) + len(value) for name, value in found.items()) > MAX_TOTAL:
        problems.append(f"Names and values together are longer than {MAX_TOTAL} characters.")
    if problems:
        raise HeadersRefused(problems[:MAX_HEADERS])
    return found


def _problem_of_name(name: str) -> str | None:
    if not name:
        return "A header needs a name."
    if len(name) > MAX_NAME:
        return f"A header's name has at most {MAX_NAME} characters."
    if not _NAME.fullmatch(name):
        return f"{name!a} cannot be a header's name: use letters, digits and hyphens."
    lower = name.lower()
    reason = _RESERVED.get(lower) or next(
        (reason for prefix, reason in _RESERVED_PREFIXES.items() if lower.startswith(prefix)), None
    )
    return f"{name} cannot be set: {reason}." if reason else None


def _problem_of_value(name: str, value: str) -> str | None:
    if not value:
        return f"The value of {name} is empty."
    if len(value) > MAX_VALUE:
        return f"The value of {name} is longer than {MAX_VALUE} characters."
    if not _VALUE.fullmatch(value):
        return (
            f"The value of {name} has characters that a header cannot carry: no line breaks or other control "
            "characters, nothing outside Latin-1, no spaces at its ends."
        )
    return None


# A value shorter than this is no secret, and a text without its occurrences may not be worth reading.
_SECRET_LENGTH = 8
MASK = "••••••"


def masked(text: str, headers: Mapping[str, str]) -> str:
    """`text`, which a receiver answered, without the values it may have echoed, in JSON or as they are.

    Where the text was cut off, the beginning of a value is a part of it too.
    """
    # `Bearer abc`: the whole, and the credential by itself. The longest first, since one may be part of another.
    secrets = {part for value in headers.values() for part in (value, value.partition(" ")[2])}
    forms = {form for secret in secrets if len(secret) >= _SECRET_LENGTH for form in _echoes(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    begun = max((_begun_at_the_end(text, form) for form in forms), default=0)
    return text[:-begun] + MASK if begun else text


def _echoes(secret: str) -> Iterator[str]:
    """The ways to write it in an answer: as it is, and as JSON writes it, with or without what need not be escaped."""
    for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield form
        yield form.replace("/", "\\/")  # PHP's json_encode does


def _begun_at_the_end(text: str, form: str) -> int:
    """How many of the first characters of `form` are the last of `text`; 0 for fewer than a secret has."""
    for length in range(min(len(form) - 1, len(text)), _SECRET_LENGTH - 1, -1):
        if text.endswith(form[:length]):
            return length
    return 0
