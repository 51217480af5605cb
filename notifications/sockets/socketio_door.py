"""The Socket.IO door: stock `socket.io-client` 4 on the default path and namespace.

python-socketio keeps the protocol: handshake, polling, upgrade, acknowledgements. The hub decides who gets what and
writes the packets of events itself, so that each is encoded once and not once per client.

Sign-in: `auth: {token, after?}`, an `Authorization: Bearer` header, or the session cookie of a signed-in browser. A
refusal is the client's `connect_error`, with `data: {code}`. Later, a connection that should come back loses its
transport: the client then reconnects by itself (it does not after a server's `disconnect()`) and hears why if it may
not come in any more.
"""

import asyncio
import contextlib
import logging
import math
import re
from typing import Any
from urllib.parse import parse_qs

import engineio
import socketio
from engineio.exceptions import EngineIOError
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as SocketIOConnectionRefused

from notifications.log_filters import OneLine
from notifications.payloads import encode
from notifications.sockets import authentication, limits, operations, origins
from notifications.sockets.connection import Connection, in_background
from notifications.sockets.hub import hub
from notifications.sockets.outlet import Outlet
from notifications.sockets.packet_queue import PacketQueue
from notifications.sockets.refusal import CloseCode, Refusal, invalid
from notifications.sockets.wire import socketio_form

logger = logging.getLogger(__name__)

PATH = "socket.io"
NAMESPACE = "/"

_CLOSING_SECONDS = 5.0
# Seconds between looks whether Engine.IO's queue, which tells nobody that it shrinks, has room again.
_QUEUE_LOOK = 0.05

# What a client may send in a WebSocket frame: a message that holds a Socket.IO packet, or a short control packet
# (close, ping, pong, upgrade, noop). Engine.IO raises on anything else.
_ENGINE_PACKET = re.compile(r"4[0-6]|[12356](?!.{16})", re.DOTALL)

# No operation has these names. Clients must not name the handlers that the library calls by event name.
_RESERVED = frozenset({"connect", "disconnect"})
_UNREADABLE = ""


class IncomingPacket(packet.Packet):
    """A Socket.IO packet; what a client sent malformed becomes an event that is refused, instead of an exception."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Whether it came from a client, not what: Engine.IO may have read anything out of it, `null` for one.
        if "encoded_packet" not in kwargs:
            super().__init__(*args, **kwargs)
        else:
            super().__init__()
            self._take(kwargs["encoded_packet"])

    def _take(self, encoded_packet: Any) -> None:
        try:
            self.attachment_count = self.decode(encoded_packet) or 0
        except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
            self._refuse(keep_id=False)
            return
        if self.packet_type == packet.BINARY_EVENT:
            self._refuse(keep_id=True)  # no operation takes bytes
        elif self.packet_type == packet.EVENT:
            if not (isinstance(self.data, list) and self.data and isinstance(self.data[0], str)):
                self._refuse(keep_id=True)
            elif self.data[0] in _RESERVED:
                self.data[0] = _UNREADABLE
        elif self.packet_type not in (packet.CONNECT, packet.DISCONNECT, packet.ACK):
            self._refuse(keep_id=False)

    def _refuse(self, keep_id: bool) -> None:
        self.packet_type, self.data, self.attachment_count = packet.EVENT, [_UNREADABLE], 0
        if not keep_id:
            self.namespace = self.id = None


_protocol_logger = logging.getLogger(f"{__name__}.protocol")
_protocol_logger.setLevel(logging.ERROR)  # below that it writes down packets, and with them tokens
_protocol_logger.addFilter(OneLine())


def _is_allowed(origin: str | None, environ: dict[str, Any]) -> bool:
    return origin is not None and origins.is_allowed(origin, environ["asgi.scope"])


class _EngineServer(engineio.AsyncServer):
    def create_queue(self, *args: Any, **kwargs: Any) -> PacketQueue:
        return PacketQueue()

    async def send_packet(self, sid: str, pkt: Any) -> None:
        session = self.sockets.get(sid)
        if session is not None and not session.closed and session.queue.is_full:
            # It asks, and does not read what it is answered. What it missed it will get when it comes back.
            await session.close(wait=False, abort=True)
            session.queue.put_nowait(None)
            return
        await super().send_packet(sid, pkt)


class _Server(socketio.AsyncServer):
    def _engineio_server_class(self) -> type[_EngineServer]:
        return _EngineServer

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self.await_sign_in(eio_sid)

    def await_sign_in(self, eio_sid: str) -> None:
        """Let an Engine.IO session in which nobody is signed in live for a while."""
        asyncio.get_running_loop().call_later(limits.SIGN_IN_SECONDS, self._end_unless_signed_in, eio_sid)

    def _end_unless_signed_in(self, eio_sid: str) -> None:
        if self.manager.sid_from_eio_sid(eio_sid, NAMESPACE) is None:
            in_background(SocketIODoor(eio_sid).end(CloseCode.UNAUTHENTICATED, "unauthenticated", ""))


server = _Server(
    async_mode="asgi",
    serializer=IncomingPacket,
    # An operation must not keep its client's heartbeat from being read. `operations` puts them in their order.
    async_handlers=True,
    cors_allowed_origins=_is_allowed,
    max_http_buffer_size=limits.FRAME_BYTES,
    logger=_protocol_logger,
    engineio_logger=_protocol_logger,
)


# Where an Engine.IO session that has a WebSocket keeps its outlet.
_OUTLET = "outlet"


class SocketIODoor:
    """One Engine.IO session."""

    def __init__(self, engine_sid: str) -> None:
        self._sid = engine_sid
        self._session: Any = server.eio.sockets.get(engine_sid)  # None: it has ended

    @property
    def has_ended(self) -> bool:
        return self._session is None or self._session.closed

    def send_now(self, frame: str) -> bool:
        outlet = self._outlet()
        return outlet is not None and outlet.send_now(frame)

    async def send(self, frame: str) -> None:
        session = self._session
        if session is None or session.closed:
            raise ConnectionResetError("The Engine.IO session has ended.")
        outlet = self._outlet()
        if outlet is not None:
            await outlet.send_text(frame)
            return
        await server.eio.send(self._sid, frame)
        while session.queue.qsize() >= limits.ENGINE_FRAMES and not session.closed:
            await asyncio.sleep(_QUEUE_LOOK)

    def _outlet(self) -> Outlet | None:
        """The session's WebSocket, unless something of Engine.IO's own waits for it: nothing is overtaken.

        Engine.IO's queue is passed by, since it costs more than all the rest.
        """
        session = self._session
        if session is None or session.closed or not session.upgraded or session.queue.unsent:
            return None
        outlet = session.session.get(_OUTLET)
        return outlet if outlet is not None and not outlet.waiting else None

    async def end(self, code: CloseCode, code_name: str, reason: str, retry_after: float | None = None) -> None:
        """Close the transport, whichever it is. The protocol has no place for the reason; coming back tells it.

        The stock client waits before it comes back, each for another while.
        """
        session = server.eio.sockets.get(self._sid)
        if session is None:
            return
        with contextlib.suppress(TimeoutError, EngineIOError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await server.eio.disconnect(self._sid)  # ends a polling request; returns when that was read
        # Engine.IO leaves a WebSocket open after that. The end of its queue makes it close it.
        session.queue.put_nowait(None)


class _DefaultNamespace(socketio.AsyncNamespace):
    def __init__(self) -> None:
        super().__init__(NAMESPACE)
        self._connections: dict[str, Connection] = {}

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event == "connect":
            return await self._connect(*args)
        if event == "disconnect":
            return self._disconnect(*args)
        return await self._operate(event, *args)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        try:
            await self._enter(sid, environ["asgi.scope"], {} if auth is None else auth)
            _forget_request(environ)
        except Refusal as refusal:
            engine_sid = self.server.manager.eio_sid_from_sid(sid, NAMESPACE)
            if refusal.code == "going_away":
                # Refused, the stock client would not come back.
                await SocketIODoor(engine_sid).end(refusal.close_code, refusal.code, refusal.message)
            self.server.await_sign_in(engine_sid)
            raise SocketIOConnectionRefused(refusal.message, {"code": refusal.code}) from None
        except Exception:
            logger.exception("A Socket.IO connection failed.")
            raise SocketIOConnectionRefused("Something went wrong here.", {"code": "unavailable"}) from None

    async def _enter(self, sid: str, scope: origins.Scope, auth: Any) -> None:
        if not isinstance(auth, dict):
            raise invalid("`auth` must be an object, such as {token: …}.")
        after = operations.cursor_of(auth)
        authentication.check_page(scope)
        token = auth.get("token")
        if token is None:
            token = authentication.offered_token(scope)
        sign_in = await (authentication.by_session(scope) if token is None else authentication.by_token(token))
        if sign_in is None:
            raise authentication.nobody()
        engine_sid = self.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        if _OUTLET in scope:  # otherwise it polls, and may be upgraded later
            self.server.eio.sockets[engine_sid].session[_OUTLET] = scope[_OUTLET]
        door = SocketIODoor(engine_sid)
        connection = Connection(door, socketio_form, sign_in.person, sign_in.expires_at, sign_in.session_key)
        await hub.enter(connection, after)
        if door.has_ended:  # while it came in: nobody would tell us
            connection.gone()
            raise Refusal("unavailable", "The connection ended while it was opened.", CloseCode.UNAVAILABLE)
        self._connections[sid] = connection
        # The writer's first step comes after the library has queued the answer to this handler: it waits for nothing.
        connection.start()

    def _disconnect(self, sid: str, *reason: str) -> None:
        connection = self._connections.pop(sid, None)
        if connection is not None:
            connection.gone()
        engine_sid = self.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        if engine_sid in self.server.eio.sockets and not self.server.eio.sockets[engine_sid].closing:
            self.server.await_sign_in(engine_sid)  # it left the namespace only

    async def _operate(self, event: str, sid: str, *arguments: Any) -> operations.Answer:
        connection = self._connections.get(sid)
        if connection is None:
            return authentication.nobody().answer()
        if len(arguments) > 1:
            arguments = (None,)  # which is no object, and refused as such
        answer = await operations.perform(connection, event, arguments[0] if arguments else {})
        if event == "join":
            # Answers go past the outbox, and this one says that everything up to its cursor has been told.
            await connection.outbox_empty()
        return answer


def _forget_request(environ: dict[str, Any]) -> None:
    """Let go of the headers, a token among them: the library would keep them for as long as the session lives."""
    for name in [name for name in environ if name.startswith("HTTP_")]:
        del environ[name]
    scope = environ["asgi.scope"]
    scope["headers"] = []
    if _OUTLET in scope:
        scope[_OUTLET].forget_handshake()


server.register_namespace(_DefaultNamespace())
_application = socketio.ASGIApp(server, socketio_path=PATH)


async def application(scope: origins.Scope, receive: Any, send: Any) -> None:
    """The ASGI application behind `/socket.io/`."""
    if hub.is_going_away and b"sid=" not in scope["query_string"]:
        await _not_now(scope, receive, send)
        return
    if scope["type"] == "websocket":
        outlet = Outlet(send)
        send, scope = outlet.send, {**scope, _OUTLET: outlet}
        receive = _well_formed(receive, send)
        # A session that polled until now names itself. Whether it may come over is for Engine.IO to say.
        for sid in parse_qs(scope["query_string"].decode("latin-1")).get("sid", ())[:1]:
            if sid in server.eio.sockets and not server.eio.sockets[sid].upgraded:
                server.eio.sockets[sid].session[_OUTLET] = outlet
    await _application(scope, receive, send)


async def close_the_rest() -> None:
    """Before the process ends: close the Engine.IO sessions in which nobody signed in."""
    ends = (SocketIODoor(sid).end(CloseCode.UNAVAILABLE, "going_away", "") for sid in list(server.eio.sockets))
    await asyncio.gather(*ends, return_exceptions=True)


async def _not_now(scope: origins.Scope, receive: Any, send: Any) -> None:
    """Refuse a handshake below Socket.IO: the stock client tries again by itself, and a proxy asks another process."""
    refusal = hub.going_away()
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
    wait = math.ceil(refusal.retry_after or 1)
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(wait).encode())]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": encode({"error": refusal.error()}).encode()})


def _well_formed(receive: Any, send: Any) -> Any:
    """The same stream of messages, ended where a client sends what is not Engine.IO, or too much of it."""

    async def checked() -> dict[str, Any]:
        message = await receive()
        text = message.get("text")
        if message["type"] == "websocket.receive" and text is not None:
            is_packet = _ENGINE_PACKET.match(text) is not None
            if not is_packet or limits.is_too_large(text):
                reason = limits.too_large().message if is_packet else "This is not a packet of Engine.IO 4."
                await send({"type": "websocket.close", "code": int(CloseCode.MALFORMED), "reason": reason})
                return {"type": "websocket.disconnect", "code": int(CloseCode.MALFORMED)}
        return message

    return checked
