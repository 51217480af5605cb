"""The operations of a connection: one table for both doors. Each is answered, and a refusal says why.

| operation | arguments | the answer has besides |
| --- | --- | --- |
| `join` | `room`, `after` (a cursor; optional) | `room`, `cursor` |
| `leave` | `room` | |
| `typing` | `ticket_id`, `active` (false: it has ended), `is_internal` (true: an internal note) | |
| `viewing` | `ticket_id`, `active` (false: it has ended) | `viewers`: who else looks, for staff |
| `notification.read` | `id`, or `notification_id` where a plain frame's `id` is a number of its own | `unread` |
| `auth` | `token` (of the same person) | |
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async

from notifications import reading
from notifications.models import Notification
from notifications.sockets import authentication, rooms
from notifications.sockets.connection import Connection
from notifications.sockets.hub import hub
from notifications.sockets.people import active_user
from notifications.sockets.presence import TYPING_SECONDS
from notifications.sockets.refusal import CloseCode, Refusal, invalid, not_found
from tickets.models import Ticket

logger = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

MAX_CURSOR = 2**63 - 1


async def perform(connection: Connection, name: Any, arguments: Any) -> Answer:
    """Do what a client asked for. Never raises: `{"ok": true, …}` or `{"ok": false, "error": {code, message}}`."""
    try:
        connection.budget.spend()  # before it waits: so there are not many that do
        operation = OPERATIONS.get(name) if isinstance(name, str) else None
        if operation is None:
            raise Refusal("unknown_operation", f"There is no such operation. There are: {', '.join(OPERATIONS)}.")
        if not isinstance(arguments, Mapping):
            raise invalid("The arguments of an operation are one object.")
        async with connection.operating:
            if connection.is_closed:
                raise Refusal("unavailable", "The connection has ended.", CloseCode.UNAVAILABLE)
            return {"ok": True, **await operation(connection, arguments)}
    except Refusal as refusal:
        if connection.budget.is_abused:
            connection.close(CloseCode.TOO_MANY, refusal.code, refusal.message)
        return refusal.answer()
    except Exception:
        logger.exception("An operation failed: %s", name)
        return Refusal("internal", "Something went wrong here. Please try again.").answer()


async def join(connection: Connection, arguments: Arguments) -> Answer:
    room = rooms.canonical(arguments.get("room"))
    return {"room": room, "cursor": await hub.join(connection, room, cursor_of(arguments))}


async def leave(connection: Connection, arguments: Arguments) -> Answer:
    await hub.leave(connection, rooms.canonical(arguments.get("room")))
    return {}


async def typing(connection: Connection, arguments: Arguments) -> Answer:
    ticket_id, requester_id = await _visible_ticket(connection, arguments)
    seconds = TYPING_SECONDS if _flag(arguments, "active", True) else 0
    is_internal = _flag(arguments, "is_internal", False)
    await hub.presence.typing(connection, ticket_id, requester_id, seconds, is_internal)
    return {}


async def viewing(connection: Connection, arguments: Arguments) -> Answer:
    ticket_id, _ = await _visible_ticket(connection, arguments)
    if _flag(arguments, "active", True):
        return {"viewers": await hub.presence.look(connection, ticket_id)}
    await hub.presence.look_away(connection, ticket_id)
    return {"viewers": []}


async def _visible_ticket(connection: Connection, arguments: Arguments) -> tuple[UUID, UUID]:
    """The ticket that the person names and may see, and its requester; raises Refusal."""
    ticket_id = rooms.parse_id(arguments.get("ticket_id"), "ticket")
    return ticket_id, await database_sync_to_async(_requester_of)(connection.person.id, ticket_id)


def _flag(arguments: Arguments, name: str, default: bool) -> bool:
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"`{name}` must be true or false.")
    return value


def _requester_of(user_id: UUID, ticket_id: UUID) -> UUID:
    visible = Ticket.objects.visible_to(active_user(user_id))
    found = visible.filter(pk=ticket_id).values_list("requester_id", flat=True).first()
    if found is None:
        raise not_found("ticket")
    return found


async def read_notification(connection: Connection, arguments: Arguments) -> Answer:
    id_ = rooms.parse_id(arguments.get("notification_id", arguments.get("id")), "notification")
    return {"unread": await database_sync_to_async(_mark_read)(connection.person.id, id_)}


def _mark_read(user_id: UUID, id_: UUID) -> int:
    user = active_user(user_id)
    if not Notification.objects.visible_to(user).filter(pk=id_).exists():
        raise not_found("notification")
    return reading.mark_read(user, [id_])


async def authenticate(connection: Connection, arguments: Arguments) -> Answer:
    """A new token extends the connection."""
    sign_in = await authentication.by_token(arguments.get("token"))
    if sign_in.person.id != connection.person.id:
        raise Refusal("another_person", "The token is another person's. Open a connection of its own for it.")
    connection.sign_in_until(sign_in.expires_at)
    connection.session_key = None
    return {}


def cursor_of(arguments: Arguments) -> int | None:
    """`after`, the last cursor the client has seen; raises Refusal for anything that never was one."""
    after = arguments.get("after")
    if after is None:
        return None
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after <= MAX_CURSOR:
        raise invalid("`after` must be a cursor: the whole number that came with an event or an answer.")
    return after


OPERATIONS: dict[str, Callable[[Connection, Arguments], Awaitable[Answer]]] = {
    "join": join,
    "leave": leave,
    "typing": typing,
    "viewing": viewing,
    "notification.read": read_notification,
    "auth": authenticate,
}
