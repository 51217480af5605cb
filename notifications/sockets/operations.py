"""The operations of a connection: one table for both doors. Each is answered, and a refusal says why.

| operation | arguments | the answer has besides |
| --- | --- | --- |
| `join` | `room`, `after` (a cursor; optional) | `room`, `cursor` |
| `leave` | `room` | |
| `typing` | `ticket_id` | |
| `viewing` | `ticket_id` | |
| `notification.read` | `id`, or `notification_id` where a plain frame's `id` is a number of its own | |
| `auth` | `token` (of the same person) | |
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.utils import timezone

from notifications.models import Notification
from notifications.sockets import authentication, rooms
from notifications.sockets.connection import Connection
from notifications.sockets.hub import hub
from notifications.sockets.people import active_user
from notifications.sockets.refusal import CloseCode, Refusal, invalid, not_found
from tickets.models import Ticket

logger = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

MAX_CURSOR = 2**63 - 1

# How long a sign of presence holds, seconds: whoever still looks or types says so again before that.
TYPING_SECONDS = 6
VIEWING_SECONDS = 60


async def perform(connection: Connection, name: Any, arguments: Any) -> Answer:
    """Do what a client asked for. Never raises: `{"ok": true, …}` or `{"ok": false, "error": {code, message}}`."""
    try:
        connection.budget.spend()
        operation = OPERATIONS.get(name) if isinstance(name, str) else None
        if operation is None:
            raise Refusal("unknown_operation", f"There is no such operation. There are: {', '.join(OPERATIONS)}.")
        if not isinstance(arguments, Mapping):
            raise invalid("The arguments of an operation are one object.")
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
    after = cursor_of(arguments)
    return {"room": room, "cursor": await hub.join(connection, room, after)}


async def leave(connection: Connection, arguments: Arguments) -> Answer:
    await hub.leave(connection, rooms.canonical(arguments.get("room")))
    return {}


async def typing(connection: Connection, arguments: Arguments) -> Answer:
    return await _pass(connection, arguments, "typing", TYPING_SECONDS)


async def viewing(connection: Connection, arguments: Arguments) -> Answer:
    return await _pass(connection, arguments, "presence", VIEWING_SECONDS)


async def _pass(connection: Connection, arguments: Arguments, event: str, seconds: int) -> Answer:
    """Tell those who look at the ticket and may see it; of who does it no more than a comment would show them."""
    ticket_id = rooms.parse_id(arguments.get("ticket_id"), "ticket")
    requester_id = await database_sync_to_async(_requester_of)(connection.person.id, ticket_id)
    await hub.send_ephemeral(connection, event, ticket_id, requester_id, expires_in=seconds)
    return {}


def _requester_of(user_id: UUID, ticket_id: UUID) -> UUID:
    visible = Ticket.objects.visible_to(active_user(user_id))
    found = visible.filter(pk=ticket_id).values_list("requester_id", flat=True).first()
    if found is None:
        raise not_found("ticket")
    return found


async def read_notification(connection: Connection, arguments: Arguments) -> Answer:
    id_ = rooms.parse_id(arguments.get("notification_id", arguments.get("id")), "notification")
    await database_sync_to_async(_mark_read)(connection.person.id, id_)
    return {}


def _mark_read(user_id: UUID, id_: UUID) -> None:
    own = Notification.objects.visible_to(active_user(user_id)).filter(pk=id_)
    if not own.unread().update(read_at=timezone.now()) and not own.exists():
        raise not_found("notification")


async def authenticate(connection: Connection, arguments: Arguments) -> Answer:
    """A new token extends the connection."""
    sign_in = await authentication.by_token(arguments.get("token"))
    if sign_in.person.id != connection.person.id:
        raise Refusal("another_person", "The token is another person's. Open a connection of its own for it.")
    connection.sign_in_until(sign_in.expires_at)
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
