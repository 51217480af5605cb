"""Webhook receivers: the seed's own on Express, and one in Python that misbehaves on purpose."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Self

from .inbox import Inbox
from .node_scripts import NodeScript


class ExpressReceiver(NodeScript):
    """The seed's Express receiver as written, recording every request; one path prefix a person."""

    script = "receiver.js"

    def __init__(self) -> None:
        super().__init__()
        self._questions = count(1)
        self.port: int = self.inbox.one(lambda message: message["kind"] == "listening", "the receiver listening")[
            "port"
        ]

    def url(self, person: str) -> str:
        return f"http://127.0.0.1:{self.port}/{person}/api/webhooks/notifications"

    def requests(self, person: str) -> list[dict[str, Any]]:
        """Requests so far: `number`, `headers`, `body` (the raw text) and `payload` (the body, parsed)."""
        return self.inbox.all(lambda message: message["kind"] == "request" and message["person"] == person)

    def request(self, person: str, matches: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first request to this person whose payload matches."""
        return self.inbox.one(
            lambda message: (
                message["kind"] == "request" and message["person"] == person and matches(message["payload"])
            ),
            f"a webhook to {person}: {what}",
        )

    def answer(self, request: dict[str, Any]) -> int:
        """The status the seed's receiver answered that request with."""
        return self.inbox.one(
            lambda message: message["kind"] == "answered" and message["number"] == request["number"],
            "the receiver's answer",
        )["status"]

    def heard(self, message: dict[str, Any]) -> None:
        if message["kind"] == "request":
            message["payload"] = json.loads(message["body"])
        super().heard(message)

    def verify(self, secret: str, request: dict[str, Any]) -> None:
        """Raise unless npm's `standardwebhooks` accepts the request."""
        question = next(self._questions)
        self.tell(op="verify", id=question, secret=secret, headers=request["headers"], body=request["body"])
        verdict = self.inbox.one(
            lambda message: message["kind"] == "verified" and message["id"] == question,
            "npm standardwebhooks' verdict",
        )
        assert verdict["ok"], verdict["error"]

    def hold(self) -> None:
        """From now on take requests in and keep the answers back."""
        self.tell(op="hold")

    def release(self) -> None:
        self.tell(op="release")


class ScriptedReceiver:
    """Answers as told: `behave` is called with the handler after the request has been read and recorded.

    It keeps its port while it is down, so that the same URL comes back to life.
    """

    def __init__(self, behave: Callable[[BaseHTTPRequestHandler], None] | None = None) -> None:
        self.inbox = Inbox()
        self.behave = behave or (lambda handler: respond(handler, 200, b'{"status": "received"}'))
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def up(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.inbox.put({"path": self.path, "headers": headers, "payload": json.loads(body), "body": body})
                receiver.behave(self)

            # A followed redirect would arrive as a GET.
            def do_GET(self) -> None:
                receiver.inbox.put({"path": self.path, "headers": {}, "payload": None, "body": b""})
                respond(self, 200)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            # A sender that gives up on a slow answer breaks the pipe: the very thing the test asks for.
            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def down(self) -> None:
        if self._server:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def arrival(self, count: int = 1) -> dict[str, Any]:
        return self.inbox.wait_for(lambda message: True, "a webhook", count=count)[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drip_headers(handler: BaseHTTPRequestHandler, seconds: float) -> None:
    """A header at a time, so that no single read ever times out."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    _drip(handler, b"X-Drip: drop\r\n", seconds)


def drip_body(handler: BaseHTTPRequestHandler, seconds: float) -> None:
    """A good status at once, and then a body that takes its time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    _drip(handler, b".", seconds)


def _drip(handler: BaseHTTPRequestHandler, drop: bytes, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        handler.wfile.write(drop)
        handler.wfile.flush()
        time.sleep(0.5)


def babble(handler: BaseHTTPRequestHandler) -> None:
    """Answer with bytes that are not HTTP."""
    handler.wfile.write(b"\x00\xff\xfe this is not http at all\n\n")
    handler.close_connection = True
