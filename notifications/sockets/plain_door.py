"""The plain door: JSON frames over a WebSocket on `/ws/`.

Sign-in, whichever comes first: the subprotocol `bearer.<token>` beside `helpdesk.v1` (which is what we answer), an
`Authorization: Bearer` header, a first frame `{"type": "auth", "token": …, "after"?: …}`, or the session cookie of a
signed-in browser. `/ws/?after=<cursor>` resumes where the first frame cannot say it.

| frame | direction |
| --- | --- |
| `{"type": "join", "id": 1, "room": "tickets"}`, or another operation | from the client |
| `{"type": "ready", "user": {…}, "cursor": …}` | to it, once, when it is signed in |
| `{"type": "ack", "id": 1, "ok": true, …}` or `{…, "ok": false, "error": {code, message}}` | the answer |
| `{"type": "event", "event": "ticket.update", …}` | what happens |
| `{"type": "error", "error": {code, message}}` | a frame that could not be answered, or why we close |
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from notifications.payloads import encode
from notifications.sockets import authentication, limits, operations
from notifications.sockets.authentication import SignIn
from notifications.sockets.connection import Connection, in_background
from notifications.sockets.hub import hub
from notifications.sockets.outlet import Outlet
from notifications.sockets.refusal import CloseCode, Refusal, invalid
from notifications.sockets.wire import plain_form

logger = logging.getLogger(__name__)

SUBPROTOCOL = "helpdesk.v1"
BEARER = "bearer."

_MAX_ID_CHARACTERS = 64
_MAX_REASON_BYTES = 123  # RFC 6455, 5.5: a close frame has 125 bytes, and the code takes two
_CLOSING_SECONDS = 5.0


class PlainDoor(AsyncWebsocketConsumer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection: Connection | None = None
        self._anonymous_until: asyncio.Task | None = None
        self._is_closing = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The consumer's own, without what it needs to wait for several sources: ours has one.

        A task for each message, and one that waits, are as much memory as all that is ours of a connection.
        """
        self._outlet = Outlet(send)
        self.scope, self.channel_layer, self.base_send = scope, None, self._outlet.send
        with contextlib.suppress(StopConsumer):
            while True:
                await self.dispatch(await receive())

    async def connect(self) -> None:
        # First of all accepted: a close before that reaches a browser as a bare 403.
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in self.scope["subprotocols"] else None)
        try:
            authentication.check_page(self.scope)
            offered = [name for name in self.scope["subprotocols"] if name.startswith(BEARER)]
            token = offered[0].removeprefix(BEARER) if offered else authentication.offered_token(self.scope)
            sign_in = await (authentication.by_token(token) if token else authentication.by_session(self.scope))
            if sign_in is not None:
                await self._enter(sign_in, self._after_in_query())
            else:
                self._anonymous_until = in_background(self._close_unless_signed_in())
        except Refusal as refusal:
            await self._turn_away(refusal)
        except Exception:
            await self._stumble()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._is_closing:
            return
        try:
            frame = _parse(text_data, id_required=self.connection is not None)
        except Refusal as refusal:
            await self._answer_malformed(refusal)
            return
        try:
            if self.connection is None:
                await self._sign_in(frame)
            else:
                answer = await operations.perform(self.connection, frame["type"], frame)
                self.connection.queue(_ack(frame["id"], answer))
        except Refusal as refusal:
            await self._turn_away(refusal)
        except Exception:
            await self._stumble()

    async def disconnect(self, code: int) -> None:
        self._is_closing = True
        if self._anonymous_until is not None:
            self._anonymous_until.cancel()
        if self.connection is not None:
            self.connection.gone()

    # --- the door of a connection ------------------------------------------------------------------------------------
    @property
    def send_now(self) -> Callable[[str], bool]:
        """The outlet's own: the connection keeps it, and each frame takes one call less."""
        return self._outlet.send_now

    async def send(self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False) -> None:
        """The consumer's own, for the only thing that is sent here: text."""
        assert text_data is not None
        await self._outlet.send_text(text_data)

    async def end(self, code: CloseCode, code_name: str, reason: str, retry_after: float | None = None) -> None:
        """Say why, then close. A client that does not even read that is closed all the same."""
        self._is_closing = True
        error = Refusal(code_name, reason, code, retry_after).error()
        await self._unless_gone(self.send(encode({"type": "error", "error": error})))
        await self._unless_gone(self.close(code=int(code), reason=_short(reason)))

    @staticmethod
    async def _unless_gone(step: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await step
        except Exception as error:  # whatever a server raises when the client has gone
            logger.debug("A closing connection had gone: %r", error)

    # --- signing in --------------------------------------------------------------------------------------------------
    async def _sign_in(self, frame: dict[str, Any]) -> None:
        if self._anonymous_until is not None:
            self._anonymous_until.cancel()
        if frame["type"] != "auth":
            raise authentication.nobody()
        sign_in = await authentication.by_token(frame.get("token"))
        acknowledgement = [_ack(frame["id"], {"ok": True})] if "id" in frame else []
        after = operations.cursor_of(frame)
        await self._enter(sign_in, self._after_in_query() if after is None else after, *acknowledgement)

    async def _enter(self, sign_in: SignIn, after: int | None, *first: str) -> None:
        connection = Connection(self, plain_form, sign_in.person, sign_in.expires_at, sign_in.session_key)
        cursor = await hub.enter(connection, after)
        self.connection = connection
        self.scope["headers"] = []
        self._outlet.forget_handshake()
        connection.start(encode({"type": "ready", "user": sign_in.person.as_json(), "cursor": cursor}), *first)

    def _after_in_query(self) -> int | None:
        given = parse_qs(self.scope["query_string"].decode("latin-1")).get("after")
        if given is None:
            return None
        is_number = given[0].isascii() and given[0].isdecimal() and len(given[0]) < 20
        return operations.cursor_of({"after": int(given[0]) if is_number else given[0]})

    async def _close_unless_signed_in(self) -> None:
        await asyncio.sleep(limits.SIGN_IN_SECONDS)
        await self._turn_away(authentication.nobody())

    # --- refusing ----------------------------------------------------------------------------------------------------
    async def _answer_malformed(self, refusal: Refusal) -> None:
        if self.connection is None:
            await self._turn_away(refusal)
            return
        try:
            self.connection.budget.spend()
        except Refusal as too_many:
            refusal = too_many
        self.connection.queue(encode({"type": "error", "error": refusal.error()}))
        if self.connection.budget.is_abused:
            self.connection.close(CloseCode.TOO_MANY, refusal.code, refusal.message)

    async def _turn_away(self, refusal: Refusal) -> None:
        if self.connection is not None:
            self.connection.refuse(refusal)
        else:
            await self.end(refusal.close_code, refusal.code, refusal.message, refusal.retry_after)

    async def _stumble(self) -> None:
        logger.exception("A plain connection failed.")
        await self._turn_away(Refusal("unavailable", "Something went wrong here.", CloseCode.UNAVAILABLE))


def _parse(text: str | None, *, id_required: bool) -> dict[str, Any]:
    """A frame as an object with a `type` and an `id`; raises Refusal for anything else."""
    if text is None:
        raise invalid("A frame must be text.")
    if limits.is_too_large(text):
        raise limits.too_large()
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal("malformed_json", "A frame must be JSON.", CloseCode.MALFORMED) from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise invalid("A frame must be an object with a `type`.")
    if ("id" in frame or id_required) and not _is_id(frame.get("id")):
        raise invalid("`id` must be a whole number or a short text: the answer carries it.")
    return frame


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_ID_CHARACTERS and value.isprintable()
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _ack(id_: int | str, answer: dict[str, Any]) -> str:
    return encode({"type": "ack", "id": id_, **answer})


def _short(reason: str) -> str:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


async def nothing_here(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application of every other WebSocket path."""
    await receive()
    await send({"type": "websocket.accept"})
    refusal = Refusal("not_found", "There is nothing here. Sockets are at /ws/ and at /socket.io/.")
    await send({"type": "websocket.send", "text": encode({"type": "error", "error": refusal.error()})})
    await send({"type": "websocket.close", "code": int(CloseCode.NOT_FOUND), "reason": refusal.message})
