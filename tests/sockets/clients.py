"""Clients of both doors with one interface: ask an operation, and read events in the order in which they came."""

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from itertools import count
from typing import Any

import socketio
from channels.testing import WebsocketCommunicator
from rest_framework_simplejwt.tokens import AccessToken
from socketio.exceptions import ConnectionError as SocketIOConnectionError

from helpdesk.accounts.models import User

Payload = dict[str, Any]

WAIT = 10
"""Seconds after which something expected counts as lost. Waiting ends with the arrival, so a high bound is free."""


def token_of(user: User, **claims: Any) -> str:
    token = AccessToken.for_user(user)
    for name, value in claims.items():
        token[name] = value
    return str(token)


class Closed(Exception):
    """The connection ended. `code` and `reason` as the plain door gave them."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class _Reader(ABC):
    """What arrives: (event name, payload) pairs, ended by Closed."""

    @abstractmethod
    async def next_event(self) -> tuple[str, Payload]:
        """Wait for it; raises Closed."""

    async def event(self, name: str, **fields: Any) -> Payload:
        """The next event of this name whose payload has these fields; what comes before it is skipped."""
        while True:
            found, payload = await self.next_event()
            if found == name and fields.items() <= payload.items():
                return payload

    async def closed(self) -> Closed:
        """Wait until the connection ends; what comes before is skipped."""
        while True:
            try:
                await self.next_event()
            except Closed as closed:
                return closed


def _event(frame: Payload) -> tuple[str, Payload]:
    return frame["event"], {name: value for name, value in frame.items() if name not in ("type", "event")}


class PlainClient(_Reader):
    """A client of the plain door, spoken to through ASGI."""

    def __init__(
        self,
        application: Any,
        token: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        path: str = "/ws/",
        subprotocols: list[str] | None = None,
    ) -> None:
        super().__init__()
        if subprotocols is None:
            subprotocols = ["helpdesk.v1", *([f"bearer.{token}"] if token else [])]
        self._unread: list[tuple[str, Payload]] = []
        self._ids = count(1)
        self._communicator = WebsocketCommunicator(
            application,
            path,
            headers=[(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            subprotocols=subprotocols,
        )
        self.subprotocol: str | None = None

    async def connect(self) -> "PlainClient":
        is_accepted, self.subprotocol = await self._communicator.connect(WAIT)
        assert is_accepted
        return self

    async def open(self) -> "PlainClient":
        """Connect and wait until signed in."""
        await self.connect()
        await self.frame("ready")
        return self

    async def send(self, frame: Any) -> None:
        if isinstance(frame, bytes):
            await self._communicator.send_input({"type": "websocket.receive", "bytes": frame})
        else:
            text = frame if isinstance(frame, str) else json.dumps(frame)
            await self._communicator.send_input({"type": "websocket.receive", "text": text})

    async def receive(self) -> Payload:
        """The next frame, whatever it is; raises Closed."""
        message = await self._communicator.receive_output(WAIT)
        if message["type"] == "websocket.close":
            raise Closed(message.get("code"), message.get("reason", ""))
        return json.loads(message["text"])

    async def frame(self, kind: str, **fields: Any) -> Payload:
        """The next frame of this type with these fields; events before it are kept."""
        while True:
            frame = await self.receive()
            if frame["type"] == "event":
                self._unread.append(_event(frame))
            elif frame["type"] == kind and fields.items() <= frame.items():
                return frame

    async def next_event(self) -> tuple[str, Payload]:
        while not self._unread:
            frame = await self.receive()
            if frame["type"] == "event":
                self._unread.append(_event(frame))
        return self._unread.pop(0)

    async def ask(self, operation: str, /, **arguments: Any) -> Payload:
        frame = {"type": operation, "id": next(self._ids), **arguments}
        await self.send(frame)
        answer = await self.frame("ack", id=frame["id"])
        return {key: answer[key] for key in answer if key not in ("type", "id")}

    async def close(self) -> None:
        # A wait that timed out has cancelled the application; a failed test must end all the same.
        with contextlib.suppress(asyncio.CancelledError):
            await self._communicator.disconnect(timeout=WAIT)


class Refused(Exception):
    """`connect_error`."""

    def __init__(self, error: Any) -> None:
        super().__init__(error)
        self.error = error


class SocketIOClient(_Reader):
    """python-socketio's own client against a server on a real port."""

    def __init__(
        self, url: str, auth: Any = None, headers: dict[str, str] | None = None, transports: Any = None
    ) -> None:
        super().__init__()
        self._url, self._auth, self._headers = url, auth, headers or {}
        self._transports = transports or ["websocket"]
        self._arrivals: asyncio.Queue[tuple[str, Payload] | None] = asyncio.Queue()
        self._refusal: Any = None
        self.client = socketio.AsyncClient(reconnection=False)
        self.client.on("*", self._heard)
        self.client.on("disconnect", self._disconnected)
        self.client.on("connect_error", self._was_refused)

    async def open(self) -> "SocketIOClient":
        try:
            await self.client.connect(
                self._url, auth=self._auth, headers=self._headers, transports=self._transports, wait_timeout=WAIT
            )
        except SocketIOConnectionError as error:
            raise Refused(self._refusal or str(error)) from None
        return self

    async def _heard(self, event: str, payload: Payload) -> None:
        self._arrivals.put_nowait((event, payload))

    async def _disconnected(self, reason: str) -> None:
        self._arrivals.put_nowait(None)

    async def _was_refused(self, error: Any) -> None:
        self._refusal = error

    async def next_event(self) -> tuple[str, Payload]:
        async with asyncio.timeout(WAIT):
            arrival = await self._arrivals.get()
        if arrival is None:
            raise Closed
        return arrival

    async def ask(self, operation: str, /, *arguments: Any, **fields: Any) -> Payload:
        """`arguments` replaces the usual single object, for malformed ones."""
        return await self.client.call(operation, arguments or fields, timeout=WAIT)

    async def close(self) -> None:
        if self.client.connected and self.client.transport() == "polling":
            await self.client.eio.http.close()  # as a browser does: the client itself would wait for its long poll
        await self.client.disconnect()


Client = PlainClient | SocketIOClient
