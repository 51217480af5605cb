"""A receiver on loopback that does to its callers what a test tells it to."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Line:
    """One accepted connection, as a behaviour sees it."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self.connection = connection
        self._closing = closing

    def read(self) -> bytes:
        """One whole request, head and body; empty when the caller has gone."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += (more := self.connection.recv(65536))
            if not more:
                return b""
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += (more := self.connection.recv(65536))
            if not more:
                return b""
        return head + b"\r\n\r\n" + body

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def repeat(self, data: bytes, pause: float = 0.0) -> None:
        """Send `data` over and over, until the caller has gone or the receiver closes."""
        while not self._closing.wait(pause):
            self.connection.sendall(data)

    def hang(self) -> None:
        self._closing.wait()

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Behaviour = Callable[[Line], None]


class Receiver:
    """Listens while the `with` block lasts. `behave` is run in a thread for each connection, which ends with it."""

    def __init__(self, behave: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._behave = behave
        self._tls = tls
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            self._behave(_Recording(connection, self._closing, self.requests))
        connection.close()


class _Recording(Line):
    def __init__(self, connection: socket.socket, closing: threading.Event, requests: list[bytes]) -> None:
        super().__init__(connection, closing)
        self._requests = requests

    def read(self) -> bytes:
        request = super().read()
        if request:
            self._requests.append(request)
        return request


def answering(*answers: bytes) -> Behaviour:
    """Answer each request with the next of `answers`, the last one for good, on connections that are kept."""
    left = list(answers)

    def behave(line: Line) -> None:
        while line.read():
            line.send(left.pop(0) if len(left) > 1 else left[0])

    return behave


def then(act: Callable[[Line], None], *, first: bytes = b"") -> Behaviour:
    """Read a request, send `first`, then `act`, and close."""

    def behave(line: Line) -> None:
        line.read()
        line.send(first)
        act(line)

    return behave
