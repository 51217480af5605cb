"""Clients for both doors, with one interface: `ask` an operation, wait for an `event`.

`SocketIoClient` is the stock npm client behind `node/sockets.js`; `PlainClient` is a WebSocket on `/ws/`.
"""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any, Protocol, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from .inbox import Inbox
from .node_scripts import NodeScript

Payload = dict[str, Any]


class Client(Protocol):
    inbox: Inbox

    def ask(self, operation: str, /, **fields: Any) -> Payload: ...

    def close(self) -> None: ...


class _Listening:
    """Reading events off an inbox of {kind: "event", event, payload}."""

    inbox: Inbox

    def event(self, name: str, matches: Callable[[Payload], bool], what: str) -> Payload:
        return self.inbox.one(
            lambda message: message["kind"] == "event" and message["event"] == name and matches(message["payload"]),
            f"{name}: {what}",
        )["payload"]

    def events(self, name: str | None = None) -> list[Payload]:
        arrived = self.inbox.all(lambda message: message["kind"] == "event" and name in (None, message["event"]))
        return [message["payload"] for message in arrived]

    def join(self, *rooms: str) -> None:
        for room in rooms:
            answer = self.ask("join", room=room)
            assert answer["ok"] is True, (room, answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SocketIoClient(_Listening):
    def __init__(self, driver: "SocketIoDriver", name: str) -> None:
        self.driver = driver
        self.name = name
        self.inbox = Inbox()
        self._questions = count(1)

    def heard(self, message: Payload) -> None:
        if message["kind"] == "event":
            message["payload"] = message["args"][0] if message["args"] else None
        self.inbox.put(message)

    def connected(self, count: int = 1) -> Payload:
        """Wait for the `count`-th connection and give {sid}."""
        return self.inbox.wait_for(lambda message: message["kind"] == "connect", "a connection", count=count)[-1]

    def refused(self) -> Payload:
        """Wait for `connect_error` and give {message, data}."""
        return self.inbox.one(lambda message: message["kind"] == "connect_error", "a refusal")

    def disconnected(self) -> str:
        return self.inbox.one(lambda message: message["kind"] == "disconnect", "a disconnect")["reason"]

    def ask(self, operation: str, /, *arguments: Any, **fields: Any) -> Payload:
        """Emit and give the acknowledgement. `arguments` replaces the usual single object, for malformed ones."""
        question = next(self._questions)
        sent = list(arguments) if arguments else [fields]
        self.driver.tell(op="emit", socket=self.name, id=question, event=operation, args=sent)
        answer = self.inbox.one(
            lambda message: message["kind"] == "ack" and message["id"] == question,
            f"the answer to {operation} {sent}",
        )["answer"]
        assert len(answer) == 1, answer
        return answer[0]

    def drop(self) -> None:
        """Lose the transport, as a network does; the stock client comes back on its own."""
        self.driver.tell(op="drop", socket=self.name)

    def close(self) -> None:
        self.driver.tell(op="close", socket=self.name)


class SocketIoDriver(NodeScript):
    """One Node process with any number of stock `socket.io-client` connections."""

    script = "sockets.js"

    def __init__(self) -> None:
        self._clients: dict[str, SocketIoClient] = {}
        self._names = count(1)
        super().__init__()

    def heard(self, message: Payload) -> None:
        if client := self._clients.get(message.get("socket", "")):
            client.heard(message)

    def open(self, url: str, *, resume: bool = False, **options: Any) -> SocketIoClient:
        """Start connecting; `options` go to the stock client untouched. `resume`: it comes back with its cursor."""
        client = SocketIoClient(self, f"socket-{next(self._names)}")
        self._clients[client.name] = client
        self.tell(op="connect", socket=client.name, url=url, options=options, resume=resume)
        return client


class PlainClient(_Listening):
    """A connection on `/ws/`. The token travels as a subprotocol; give `token=None` to send it another way."""

    def __init__(
        self,
        base: str,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        origin: str | None = None,
        after: int | None = None,
    ) -> None:
        self.inbox = Inbox()
        self._questions = count(1)
        offered = ["helpdesk.v1", *([f"bearer.{token}"] if token else [])]
        self._open = ExitStack()
        connecting = connect(
            base.replace("http", "ws", 1) + ("/ws/" if after is None else f"/ws/?after={after}"),
            subprotocols=[Subprotocol(name) for name in offered],
            additional_headers=headers,
            origin=Origin(origin) if origin else None,
            proxy=None,
            max_size=None,
            open_timeout=30,
        )
        self._socket = self._open.enter_context(connecting)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def subprotocol(self) -> str | None:
        return self._socket.subprotocol

    def _read(self) -> None:
        try:
            while True:
                self._heard(json.loads(self._socket.recv()))
        except ConnectionClosed:
            self.inbox.put({"kind": "closed", "code": self._socket.close_code, "reason": self._socket.close_reason})

    def _heard(self, frame: Payload) -> None:
        if frame["type"] == "event":
            payload = {key: value for key, value in frame.items() if key not in ("type", "event")}
            self.inbox.put({"kind": "event", "event": frame["event"], "payload": payload})
        else:
            self.inbox.put({"kind": "frame", "frame": frame})

    def ask(self, operation: str, /, **fields: Any) -> Payload:
        """Send an operation and give the `ack` frame with the same id."""
        # `notification.read` has an id of its own, which is then the frame's.
        question = fields.get("id", next(self._questions))
        self.send({"type": operation, **fields, "id": question})
        return self.frame(lambda frame: frame.get("id") == question, f"the answer to {operation} {fields}")

    def send(self, frame: Any) -> None:
        """Send a frame; text and bytes go out as they are."""
        self._socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def frame(self, matches: Callable[[Payload], bool], what: str) -> Payload:
        return self.inbox.one(lambda message: message["kind"] == "frame" and matches(message["frame"]), what)["frame"]

    def closed(self) -> tuple[int, str]:
        message = self.inbox.one(lambda message: message["kind"] == "closed", "the connection closed")
        return message["code"], message["reason"]

    def close(self) -> None:
        self._open.close()
        self._reader.join(timeout=10)
