"""Rooms: what a client may ask to be shown. A room only selects; what of it a person sees is decided event by event.

| room | what is shown in it |
| --- | --- |
| `tickets` | tickets and their attachments |
| `comments` | comments |
| `attachments` | attachments |
| `users` | people; for administrators |
| `kb` | the knowledge base |
| `ticket:<uuid>` | one ticket with its comments and attachments, and who looks at it or types |

One's own notifications, `kb.update` and (for administrators) `user.update` are few and need no join: every connection
is in `OWN` from the start.
"""

from typing import Any
from uuid import UUID

from helpdesk.accounts.models import Role, User
from notifications.sockets.refusal import Refusal, invalid, not_found
from tickets.models import Ticket

# No client can join or leave it: it is no name that `canonical` knows.
OWN = "own"

PLAIN_ROOMS = frozenset({"tickets", "comments", "attachments", "users", "kb"})
_TICKET = "ticket:"


def ticket_room(ticket_id: UUID | str) -> str:
    return f"{_TICKET}{ticket_id}"


def ticket_of(room: str) -> UUID | None:
    """Whose room a (canonical) room is, if it is a ticket's."""
    return UUID(room.removeprefix(_TICKET)) if room.startswith(_TICKET) else None


def rooms_of(entity: str, ticket_id: str | None) -> tuple[str, ...]:
    """Every room in which a change of such an entity is shown."""
    match entity:
        case "ticket":
            return ("tickets", ticket_room(ticket_id or ""))
        case "comment":
            return ("comments", ticket_room(ticket_id or ""))
        case "attachment":
            return ("attachments", "tickets", ticket_room(ticket_id or ""))
        case "user":
            return ("users", OWN)
        case "kb_article":
            return ("kb", OWN)
        case _:
            return (OWN,)


def canonical(name: Any) -> str:
    """The room a client named, in its one spelling; raises Refusal."""
    if not isinstance(name, str):
        raise invalid("`room` must be the name of a room.")
    if name in PLAIN_ROOMS:
        return name
    if name.startswith(_TICKET):
        return ticket_room(parse_id(name.removeprefix(_TICKET), "ticket"))
    known = ", ".join(sorted(PLAIN_ROOMS))
    raise Refusal("unknown_room", f"There is no such room. The rooms are: {known}, ticket:<id>.")


def parse_id(value: Any, what: str) -> UUID:
    """An id as the API writes it; what is none of ours is `not_found`, what is no text `invalid`."""
    if not isinstance(value, str):
        raise invalid(f"The id of the {what} must be a text.")
    try:
        parsed = UUID(value)
    except ValueError:
        raise not_found(what) from None
    if str(parsed) != value.lower():
        raise not_found(what)
    return parsed


def check(user: User, room: str) -> None:
    """Whether the person may join now; raises Refusal. At most one query."""
    if room == "users" and user.role != Role.ADMIN:
        raise Refusal("forbidden", "Only administrators can follow changes of people.")
    if room.startswith(_TICKET):
        visible = Ticket.objects.visible_to(user)
        if not visible.filter(pk=room.removeprefix(_TICKET)).exists():
            raise not_found("ticket")
