"""Receivers that do wrong, each in one way. `webhook_listen` can be told to be one, to show what comes of it."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from notifications.webhooks.listener import Behaviour, Handler, Received, honestly

GARBAGE = b"\x15\x03\x01 this is no HTTP \r\n\r\n"


def status(code: int, retry_after: int | None = None) -> Behaviour:
    """Answer `code` whatever comes, with `Retry-After` (seconds) if given."""
    answer = {"status": "received"} if 200 <= code < 300 else {"status": "refused", "reason": f"told to answer {code}"}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda handler, received: handler.respond(code, answer, headers)


def redirect(location: str) -> Behaviour:
    """Send the sender elsewhere."""
    answer = {"status": "refused", "reason": "told to redirect"}
    return lambda handler, received: handler.respond(302, answer, {"Location": location})


def garbage(handler: Handler, received: Received) -> None:
    """Answer what is not HTTP."""
    handler.close_connection = True
    handler.wfile.write(GARBAGE)


def reset(handler: Handler, received: Received) -> None:
    """Cut the connection instead of answering, as a crash or a firewall does."""
    handler.close_connection = True
    # Without lingering, closing sends RST. It must come before the server's own polite shutdown, which sends FIN.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def late(behave: Behaviour, seconds: float) -> Behaviour:
    """Do it `seconds` later."""

    def behave_late(handler: Handler, received: Received) -> None:
        handler.wait(seconds)
        behave(handler, received)

    return behave_late


def dripping(behave: Behaviour, seconds: float) -> Behaviour:
    """Do it one byte at a time, with `seconds` between two bytes."""

    def behave_slowly(handler: Handler, received: Received) -> None:
        whole = handler.wfile
        handler.wfile = _Drip(whole, lambda: handler.wait(seconds))  # type: ignore[assignment]
        try:
            behave(handler, received)
        finally:
            handler.wfile = whole

    return behave_slowly


def at_first(behave: Behaviour, times: int) -> Behaviour:
    """Misbehave the first `times` times that a message comes, then answer honestly."""
    seen: Counter[str] = Counter()
    counting = threading.Lock()

    def behave_at_first(handler: Handler, received: Received) -> None:
        with counting:
            seen[received.message_id] += 1
            is_early = seen[received.message_id] <= times
        (behave if is_early else honestly)(handler, received)

    return behave_at_first


class _Drip:
    """A file that passes on what is written byte by byte, pausing before each."""

    def __init__(self, whole: Any, pause: Callable[[], None]) -> None:
        self._whole, self._pause = whole, pause

    def write(self, data: bytes) -> int:
        for position in range(len(data)):
            self._pause()
            self._whole.write(data[position : position + 1])
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)
