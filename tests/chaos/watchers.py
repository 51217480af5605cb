"""Clients of both doors that do what docs/realtime.md tells them, on a network that is cut and frozen.

A watcher keeps the state it would show: fetched once, then built from events. It comes back with the cursor up to which
it was told everything, and fetches again only when it is asked to.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import socketio
import websockets
from socketio.exceptions import SocketIOError
from websockets.exceptions import WebSocketException

ROOMS = ("tickets", "comments")
PATHS = {"ticket": "/api/tickets", "comment": "/api/comments", "kb": "/api/kb/articles"}
PATIENCE = 40.0
"""Seconds that an answer may take: somebody may just have been frozen."""

Shown = tuple[str, int]
"""An event name and a cursor: never twice."""


class Network:
    """Between one client and the servers. Each connection goes to any of `ports`."""

    def __init__(self, ports: Callable[[], list[int]], random_: random.Random) -> None:
        self._ports, self._random = ports, random_
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.thaw()
        self.cut()
        self._server.close()

    def cut(self) -> None:
        """Every connection is gone, and what was under way with it."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            reader_there, writer_there = await asyncio.open_connection("127.0.0.1", self._random.choice(self._ports()))
            pair = {writer, writer_there}
            self._writers |= pair
            try:
                await asyncio.gather(self._pump(reader, writer_there), self._pump(reader_there, writer))
            finally:
                self._writers -= pair
                for end in pair:
                    end.transport.abort()
            return
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


class Gone(Exception):
    """The connection has ended."""


class PlainLine:
    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._ids = itertools.count(1)
        self._socket: websockets.ClientConnection | None = None

    async def open(self, after: int | None) -> None:
        address = f"ws://127.0.0.1:{self._port}/ws/" + ("" if after is None else f"?after={after}")
        names = [websockets.Subprotocol(name) for name in ("helpdesk.v1", f"bearer.{self._token}")]
        self._socket = await websockets.connect(
            address, subprotocols=names, proxy=None, open_timeout=PATIENCE, max_size=None, ping_timeout=None
        )

    async def join(self, room: str) -> int:
        id_ = next(self._ids)
        await self._socket.send(json.dumps({"type": "join", "id": id_, "room": room}))
        return id_

    async def next(self) -> tuple[str, Any, Any]:
        """("ack", id, answer) or ("event", name, payload)."""
        while True:
            frame = json.loads(await self._socket.recv())
            if frame["type"] == "ack":
                return "ack", frame["id"], frame
            if frame["type"] == "event":
                return "event", frame["event"], frame

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()


class SocketIOLine:
    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._arrivals: asyncio.Queue[tuple[str, Any, Any] | None] = asyncio.Queue()
        self._ids = itertools.count(1)
        self._client = socketio.AsyncClient(reconnection=False)
        self._client.on("*", self._heard)
        self._client.on("disconnect", lambda reason: self._arrivals.put_nowait(None))

    async def open(self, after: int | None) -> None:
        auth = {"token": self._token} if after is None else {"token": self._token, "after": after}
        url = f"http://127.0.0.1:{self._port}"
        await self._client.connect(url, auth=auth, transports=["websocket"], wait_timeout=PATIENCE)

    async def _heard(self, event: str, payload: Any) -> None:
        self._arrivals.put_nowait(("event", event, payload))

    async def join(self, room: str) -> int:
        id_ = next(self._ids)
        callback = lambda answer: self._arrivals.put_nowait(("ack", id_, answer))  # noqa: E731
        await self._client.emit("join", {"room": room}, callback=callback)
        return id_

    async def next(self) -> tuple[str, Any, Any]:
        arrival = await self._arrivals.get()
        if arrival is None:
            raise Gone
        return arrival

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            if (socket := self._client.eio.ws) is not None:
                await socket.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self._client.disconnect()


@dataclass
class Watcher:
    name: str
    token: str
    network: Network
    line: type[PlainLine] | type[SocketIOLine]
    random: random.Random
    replays: bool = True
    """Whether it comes back with its cursor; without it is the control."""

    started_at: int | None = None
    shown: list[Shown] = field(default_factory=list)
    actions: dict[Shown, str] = field(default_factory=dict)
    state: dict[tuple[str, str], Any] = field(default_factory=dict)
    resyncs: list[str] = field(default_factory=list)
    connections: int = 0
    trouble: list[str] = field(default_factory=list)
    is_live: bool = False
    _cursor: int | None = None
    _had: set[Shown] = field(default_factory=set)

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}) as self._http:
            while True:
                try:
                    await self._connection()
                except (
                    OSError,
                    WebSocketException,
                    SocketIOError,
                    Gone,
                    TimeoutError,
                    aiohttp.ClientError,
                    EOFError,
                ):
                    self.is_live = False
                # The control is away for longer, so that there is something to miss on a slow machine too.
                await asyncio.sleep(self.random.uniform(0.05, 0.4) if self.replays else 2)

    async def _connection(self) -> None:
        line = self.line(self.network.port, self.token)
        # An update and the notification of it have one cursor, and the line may have been cut between the two: ask
        # for that cursor once more, and pass over what came of it.
        self._had = {shown for shown in self.shown[-4:] if shown[1] == self._cursor}
        try:
            await line.open(self._after())
            self.connections += 1
            caught_up = await self._catch_up(line)
            asked_anew = [payload["cursor"] for name, payload in caught_up if name == "resync_required"]
            if asked_anew:
                caught_up = [(name, payload) for name, payload in caught_up if payload["cursor"] > max(asked_anew)]
                await self._start_over(max(asked_anew))
            for name, payload in sorted(caught_up, key=lambda event: event[1]["cursor"]):
                await self._show(name, payload)
            self.is_live = True
            while True:
                _, name, payload = await line.next()
                await self._show(name, payload)
        finally:
            self.is_live = False
            await line.close()

    def _after(self) -> int | None:
        if self._cursor is None or not self.replays:
            return None
        return self._cursor - 1 if self._had else self._cursor

    async def _catch_up(self, line: PlainLine | SocketIOLine) -> list[tuple[str, Any]]:
        """Join; returns what was told until all rooms had been joined. What is cut short does not count."""
        waiting = {await line.join(room) for room in ROOMS}
        told, joined_at = [], []
        async with asyncio.timeout(PATIENCE):
            while waiting:
                kind, name, payload = await line.next()
                if kind == "ack":
                    assert payload["ok"], payload
                    waiting.discard(name)
                    joined_at.append(payload["cursor"])
                else:
                    if name == "resync_required":
                        self.resyncs.append(payload["reason"])
                    told.append((name, payload))
        if self._cursor is None:
            self.started_at = min(joined_at)
            await self._start_over(self.started_at)
        elif not self.replays:
            self._cursor = min(joined_at)
        return told

    async def _start_over(self, cursor: int) -> None:
        self.state = await self.fresh()
        self._cursor = cursor

    async def _show(self, name: str, payload: dict[str, Any]) -> None:
        cursor = payload["cursor"]
        if name == "resync_required":
            self.resyncs.append(payload["reason"])
            await self._start_over(cursor)
            return
        if (name, cursor) in self._had:
            self._had.discard((name, cursor))
            return
        assert self._cursor is not None
        if cursor < self._cursor:
            self.trouble.append(f"{name} {cursor} after {self._cursor}")
        if (name, cursor) in self.actions:
            self.trouble.append(f"{name} {cursor} twice")
        data = payload.get("data") or {}
        self.shown.append((name, cursor))
        self.actions[name, cursor] = payload.get("action", "")
        self._cursor = max(self._cursor, cursor)
        if name != "notification":
            await self._apply(name.removesuffix(".update"), payload["action"], data)

    async def _apply(self, kind: str, action: str, data: dict[str, Any]) -> None:
        if action in ("removed", "deleted"):
            self.state.pop((kind, data["id"]), None)
        elif kind in PATHS:
            self.state[kind, data["id"]] = data

    async def fresh(self) -> dict[tuple[str, str], Any]:
        """What the API shows this person now."""
        return {(kind, it["id"]): it for kind, path in PATHS.items() for it in await self._pages(path)}

    async def _pages(self, path: str) -> list[Any]:
        """Every entity of a list, however often it takes; none when there is no such list (any more)."""
        while True:
            with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError, EOFError):
                return [entity async for page in self._read(path) for entity in page]
            await asyncio.sleep(0.2)

    async def _read(self, path: str | None) -> AsyncIterator[list[Any]]:
        timeout = aiohttp.ClientTimeout(PATIENCE)
        while path:
            async with self._http.get(f"http://127.0.0.1:{self.network.port}{path}", timeout=timeout) as response:
                if response.status == 404:
                    return  # it has been taken away already; that will be told
                assert response.status == 200, await response.text()
                page = await response.json()
            yield page["results"]
            path = page["next"] and "/" + page["next"].split("/", 3)[3]
