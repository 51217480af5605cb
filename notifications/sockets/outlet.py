"""Where the frames of one WebSocket go.

ASGI's `send` makes each server build each client's frame anew: on uvicorn that is half of what a frame costs. So a
finished frame, built once for all who get it, is written straight to uvicorn's transport, where the protocol is the one
we know and in a state in which it would do the same. Nothing depends on it: wherever a look at it is in doubt, the
frame goes through `send`, as it does on every other server. `tests/sockets/test_outlet.py` pins what is used of it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from notifications.sockets.wire import Frame

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    from websockets.protocol import State
except ImportError:  # served by something else
    WebSocketsSansIOProtocol = None  # type: ignore[assignment,misc]


class Outlet:
    """The ASGI `send` of a WebSocket. `waiting` counts the messages that the transport has not taken yet."""

    __slots__ = ("_is_closing", "_is_writable", "_protocol", "_send", "_write", "waiting")

    def __init__(self, send: Send) -> None:
        self._send = send
        protocol = getattr(send, "__self__", None)
        is_known = WebSocketsSansIOProtocol is not None and type(protocol) is WebSocketsSansIOProtocol
        self._protocol = protocol if is_known else None
        if self._protocol is not None:
            self._is_writable = self._protocol.writable.is_set
            self._is_closing, self._write = self._protocol.transport.is_closing, self._protocol.transport.write
        self.waiting = 0

    def forget_handshake(self) -> None:
        """Called when the request has been read: uvicorn would keep it, parsed three times, as long as the connection.

        That is 6 KB of the 35 that a connection would cost.
        """
        if self._protocol is not None:
            self._protocol.request = self._protocol.response = None  # type: ignore[assignment]  # not asked for again
            self._protocol.scope["headers"] = []

    async def send(self, message: Message) -> None:
        """What ASGI calls `send`."""
        self.waiting += 1
        try:
            await self._send(message)
        finally:
            self.waiting -= 1

    def send_now(self, frame: str) -> bool:
        """Write a frame straight to the transport where that is the same as sending it; whether it was done."""
        protocol = self._protocol
        if (
            protocol is not None
            and type(frame) is Frame
            and not self.waiting
            # A text message would be written now, as it is:
            and self._is_writable()
            and protocol.handshake_complete
            and not protocol.close_sent
            and not protocol.disconnected
            and protocol.conn.state is State.OPEN
            and not protocol.conn.extensions
            and not self._is_closing()
        ):
            self._write(frame.finished)
            return True
        return False

    async def send_text(self, frame: str) -> None:
        await self.send({"type": "websocket.send", "text": frame.message if type(frame) is Frame else frame})
