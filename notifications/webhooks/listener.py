"""A receiver to try webhooks with: it checks signatures, notices repetitions, and can misbehave on purpose.

For development and tests, on the standard library's server: nothing of it is part of a deployment.
"""

import json
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from notifications.webhooks import signing
from notifications.webhooks.sending import ATTEMPT_HEADER

# Ours stay below 90 KB; a megabyte still shows what somebody else sends by mistake.
MAX_BODY_BYTES = 1_000_000
# Ids that are remembered to notice repetitions; the oldest is forgotten first.
MAX_IDS = 10_000

# Statuses whose answers have no body (RFC 9110 §15.3.5, §15.4.5).
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True)
class Received:
    """One request, and what was found of it.

    `verified` is None where there was no secret to check with; otherwise `problem` says why not. `times`: how often a
    message of this id has been taken, this one included.
    """

    at: datetime
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    verified: bool | None
    problem: str
    times: int

    @property
    def message_id(self) -> str:
        return self.headers.get(signing.ID_HEADER, "")

    @property
    def attempt(self) -> str:
        return self.headers.get(ATTEMPT_HEADER, "")

    @property
    def notification(self) -> dict[str, Any]:
        """The notification's head, empty where the body has none."""
        try:
            found = json.loads(self.body)["notification"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass
class Tally:
    """What came while the listener ran."""

    received: int = 0
    refused: int = 0
    repeated: int = 0


class Handler(BaseHTTPRequestHandler):
    """Reads one request after the other from a connection, and lets the listener's behaviour answer."""

    server: "Listener"
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds of silence until a connection is closed

    def do_POST(self) -> None:
        body = self._body()
        if body is not None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.behave(self, self.server.take(self.path, headers, body))

    def version_string(self) -> str:
        return "helpdesk-webhook-listen"

    def respond(self, status: int, payload: Mapping[str, str], headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON, or with nothing where the status allows no body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        if status in _BODILESS:
            self.end_headers()
            return
        body = json.dumps(payload).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, or less when the listener is closed."""
        self.server.closing.wait(seconds)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that is no webhook at all; the standard library calls it for what it cannot read."""
        reason = message or HTTPStatus(code).phrase
        self.close_connection = True
        self.server.note(f"Refused a request with {int(code)}: {reason}")
        self.respond(code, {"error": reason})

    def log_message(self, *args: object) -> None:
        """Nothing: the listener reports what matters."""

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "a webhook has a Content-Length")
        elif len(length) > 12 or int(length) > MAX_BODY_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a webhook has at most {MAX_BODY_BYTES} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
            self.server.note("The sender closed the connection in the middle of the body.")
        return None


# Answers the request that the handler has read. One that misbehaves may use `handler.connection` and `handler.wfile`.
Behaviour = Callable[[Handler, Received], None]


def honestly(handler: Handler, received: Received) -> None:
    """Answer 200, or 401 where the signature is wrong."""
    if received.verified is False:
        handler.respond(HTTPStatus.UNAUTHORIZED, {"status": "refused", "reason": received.problem})
    else:
        handler.respond(HTTPStatus.OK, {"status": "received"})


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens from the moment it is made; `serve_forever()` answers. Port 0 takes any free one.

    `report` gets every request before it is answered, `note` one line about what was no webhook; neither is called by
    two threads at once. OSError when the address cannot be had.
    """

    allow_reuse_address = True
    daemon_threads = True  # a connection that is kept open does not keep the listener from ending
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        *,
        secrets: Sequence[str],
        behave: Behaviour,
        report: Callable[[Received], None],
        note: Callable[[str], None],
    ) -> None:
        self.secrets = secrets
        self.behave = behave
        self.tally = Tally()
        self.closing = threading.Event()
        self._report, self._note = report, note
        self._reporting = threading.Lock()
        self._times: OrderedDict[str, int] = OrderedDict()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        """Where a sender on this machine finds it."""
        host, port = str(self.server_address[0]), self.server_address[1]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Check a request, count and report it."""
        verified, problem = self._verify(headers, body)
        with self._reporting:
            times = 0 if verified is False else self._count(headers.get(signing.ID_HEADER, ""))
            received = Received(datetime.now(UTC), path, headers, body, verified, problem, times)
            self.tally.received += 1
            self.tally.refused += verified is False
            self.tally.repeated += times > 1
            self._report(received)
        return received

    def note(self, line: str) -> None:
        with self._reporting:
            self._note(line)

    def close(self) -> None:
        """Let go of the port and of those who are waiting. Called when `serve_forever()` has returned."""
        self.closing.set()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exc_info()[1], ConnectionError):
            self.note("The sender closed the connection before the whole answer was there.")
        else:
            super().handle_error(request, client_address)

    def _verify(self, headers: Mapping[str, str], body: bytes) -> tuple[bool | None, str]:
        if not self.secrets:
            return None, "no secret to check with"
        try:
            signing.verify(self.secrets, headers, body, time.time())
        except signing.VerificationError as error:
            return False, error.message
        return True, ""

    def _count(self, message_id: str) -> int:
        if not message_id:
            return 1
        times = self._times[message_id] = self._times.pop(message_id, 0) + 1
        if len(self._times) > MAX_IDS:
            self._times.popitem(last=False)
        return times
