"""Many clients in one thread, as cheap as Python lets them be: the same ones for our servers and for what we compare.

They read from `epoll` and count frames by their headers. No frame is decoded, so that the server is what is measured.
"""

import array
import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

Door = Literal["plain", "socketio"]

ROOM = "comments"
SECONDS = 60.0
"""What is expected later than this is lost."""
AT_ONCE = 50
"""Clients that connect together."""
PER_SOURCE = 5_000
"""Connections of one loopback address: a Linux machine has some 28,000 ports for it."""

EVENT_BYTES = 300
"""A text frame as long as this is an event; acknowledgements and pings are shorter."""
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89
_MASK = b"\0\0\0\0"
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


class Client:
    """One raw WebSocket."""

    __slots__ = ("door", "rest", "socket")

    def __init__(
        self, port: int, door: Door, source: str, token: str | None, receive_buffer: int | None = None
    ) -> None:
        self.door = door
        self.rest = b""
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        path = "/ws/" if door == "plain" else "/socket.io/?EIO=4&transport=websocket"
        more = f"Sec-WebSocket-Protocol: helpdesk.v1, bearer.{token}\r\n" if token and door == "plain" else ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(_UPGRADE.format(path=path, port=port, key=key, more=more).encode())

    def signed_in(self, token: str | None) -> None:
        """Go through the handshake up to where operations may be sent."""
        while b"\r\n\r\n" not in self.rest:
            self._fill()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"no WebSocket was opened: {head[:200]!r}")
        if self.door == "plain":
            self._expect(b'"ready"')
        else:
            self._expect(b"0{")
            self.send("40" + json.dumps({"token": token}))
            self._expect(b"40{")

    def ask_join(self, room: str) -> None:
        if self.door == "plain":
            self.send(json.dumps({"type": "join", "id": 1, "room": room}))
        else:
            self.send("420" + json.dumps(["join", {"room": room}]))

    def joined(self) -> None:
        self._expect(b'"ok":true' if self.door == "plain" else b"430[")

    def send(self, text: str) -> None:
        self.socket.sendall(_frame(_TEXT, text.encode()))

    def take(self, data: bytes) -> int:
        """Count the events in what was read, and answer pings; the number of events."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        count = end = 0
        for kind, payload, end in _frames(data):  # noqa: B007 - where the last one ended
            if kind == _TEXT and len(payload) >= EVENT_BYTES:
                count += 1
            elif kind == _PING:
                self.socket.sendall(_frame(0x8A, payload))
            elif kind == _TEXT and payload == b"2":
                self.send("3")
            elif kind == _CLOSE:
                raise RuntimeError(f"a connection was closed: {payload!r}")
        self.rest = data[end:]
        return count

    def closed(self) -> float:
        """Read on until the server closes; when (`perf_counter`) it said so."""
        while True:
            for kind, _payload, position in _frames(self.rest):
                self.rest = self.rest[position:]
                if kind == _CLOSE:
                    return time.perf_counter()
                break
            else:
                self._fill()

    def unread_bytes(self) -> int:
        """What waits in the kernel to be read."""
        found = array.array("i", [0])
        fcntl.ioctl(self.socket, termios.FIONREAD, found)
        return found[0]

    def _expect(self, start: bytes) -> None:
        """Wait for a frame that has `start` near its start; no other but control frames may come before it."""
        while True:
            for kind, payload, position in _frames(self.rest):
                self.rest = self.rest[position:]
                if kind != _TEXT:
                    break
                if start not in payload[:60]:
                    raise RuntimeError(f"expected {start!r}, not {payload[:300]!r}")
                return
            else:
                self._fill()

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError(f"the server closed the connection after {self.rest!r}")
        self.rest += data


class Fleet:
    """Clients that are connected, and what they were sent."""

    _open: ClassVar[list["Fleet"]] = []
    """All there are: while one works, the pings of the others have to be answered too."""

    def __init__(
        self,
        port: int,
        door: Door,
        tokens: Sequence[str | None],
        room: str = ROOM,
    ) -> None:
        """One client for each token; None where the server knows no sign-in. They join `room`."""
        self.clients: list[Client] = []
        self._by_number: dict[int, Client] = {}
        self._epoll = select.epoll()
        began = time.perf_counter()
        for batch in _batches(list(enumerate(tokens)), AT_ONCE):
            self._connect(port, door, batch, room)
            for fleet in (*self._open, self):
                fleet.idle(0)
        self._open.append(self)
        self.connections_per_second = len(tokens) / (time.perf_counter() - began)
        """Signed in, and in their room."""

    def _connect(self, port: int, door: Door, batch: Iterable[tuple[int, str | None]], room: str) -> None:
        fresh = [(Client(port, door, f"127.0.0.{2 + number // PER_SOURCE}", token), token) for number, token in batch]
        for client, token in fresh:
            client.signed_in(token)
        for client, _ in fresh:
            client.ask_join(room)
        for client, _ in fresh:
            client.joined()
            self._add(client)

    def _add(self, client: Client) -> None:
        self.clients.append(client)
        self._by_number[client.socket.fileno()] = client
        self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    @classmethod
    def together(cls, fleets: Sequence["Fleet"]) -> "Fleet":
        """One fleet of the clients of several, which have none after that."""
        union = cls(0, "plain", [])
        for fleet in fleets:
            for client in fleet.clients:
                union._add(client)
            fleet.clients.clear()
            fleet.close()
        return union

    def receive(self, count: int, arrivals: list[float] | None = None) -> float:
        """Read until `count` events have come, over all clients; when (`perf_counter`) the last one came.

        When each came is added to `arrivals`. RuntimeError when they do not come in time, or more than they.
        """
        deadline = time.perf_counter() + SECONDS
        read, clients = os.read, self._by_number
        while count > 0:
            for number, _ in self._epoll.poll(0.2):
                client = clients[number]
                data = read(number, 262144)
                if not data:
                    raise RuntimeError("the server closed a connection")
                # Nearly always exactly one event: a header of four bytes, and what it announces.
                if (
                    not client.rest
                    and data[0] == _TEXT
                    and data[1] == 126
                    and (size := data[2] << 8 | data[3]) == len(data) - 4
                    and size >= EVENT_BYTES
                ):
                    came = 1
                else:
                    came = client.take(data)
                count -= came
                if arrivals is not None:
                    arrivals += [time.perf_counter()] * came
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{count} events did not come in {SECONDS} s")
        if count < 0:
            raise RuntimeError(f"{-count} events more came than were sent")
        return time.perf_counter()

    def idle(self, seconds: float) -> None:
        """Answer pings for so long. RuntimeError when an event comes."""
        deadline = time.perf_counter() + seconds
        left = seconds
        while left >= 0:
            for number, _ in self._epoll.poll(min(left, 0.2)):
                data = os.read(number, 262144)
                if not data:
                    raise RuntimeError("the server closed a connection")
                if self._by_number[number].take(data):
                    raise RuntimeError("an event came that nobody sent, or to one who must not see it")
            left = deadline - time.perf_counter()

    @classmethod
    def rest(cls, seconds: float) -> None:
        """Answer everybody's pings for so long."""
        deadline = time.perf_counter() + seconds
        while True:
            for fleet in cls._open:
                fleet.idle(0)
            if time.perf_counter() > deadline:
                return
            time.sleep(0.02)

    def close(self) -> None:
        if self not in self._open:
            return
        self._open.remove(self)
        for client in self.clients:
            client.socket.close()
        self._epoll.close()
        self.clients.clear()


@contextlib.contextmanager
def silent(port: int, tokens: Sequence[str]) -> Iterator[list[Client]]:
    """Plain clients that join the room and never read again, with as little room in the kernel as it allows."""
    with single(port, tokens, receive_buffer=1) as clients:
        yield clients


@contextlib.contextmanager
def single(port: int, tokens: Sequence[str], receive_buffer: int | None = None) -> Iterator[list[Client]]:
    """Plain clients in the room, each read by itself or not at all."""
    clients = []
    try:
        for token in tokens:
            client = Client(port, "plain", "127.0.0.1", token, receive_buffer)
            clients.append(client)
            client.signed_in(token)
            client.ask_join(ROOM)
            client.joined()
        yield clients
    finally:
        for client in clients:
            client.socket.close()


def _frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The complete frames of a server: first byte, payload, and where the next one begins."""
    position, size = 0, len(data)
    while size - position >= 2:
        length, start = data[position + 1], position + 2
        if length == 126:
            if size - position < 4:
                return
            length, start = struct.unpack_from("!H", data, start)[0], start + 2
        elif length == 127:
            if size - position < 10:
                return
            length, start = struct.unpack_from("!Q", data, start)[0], start + 8
        if size < start + length:
            return
        yield data[position], data[start : start + length], start + length
        position = start + length


def _frame(kind: int, payload: bytes) -> bytes:
    """A client's frame: masked, with the mask that changes nothing."""
    length = len(payload)
    header = struct.pack("!BB", kind, 0x80 | length) if length < 126 else struct.pack("!BBH", kind, 0x80 | 126, length)
    return header + _MASK + payload


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch
