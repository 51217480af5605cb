"""What a connection missed, read from the event log. Database work: call it in a thread."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db.models import Prefetch

from notifications.models import Event, EventStream, Notification
from notifications.rights import current_scopes, may_still_see
from notifications.sockets import limits, rooms
from notifications.sockets.events import StreamEvent
from notifications.sockets.people import Person, active_user
from notifications.stream import message_of


@dataclass(frozen=True)
class Standing:
    """Who somebody is now, and how far the stream has come."""

    person: Person
    position: int


class Missed(NamedTuple):
    event: StreamEvent
    is_visible: bool  # its subject, to this person, now


class TooMuchMissed(Exception):
    """The log cannot, or should not, tell everything since that cursor: the client has to fetch the present state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def standing(user_id: UUID, room: str | None = None) -> Standing:
    """Raises Refusal when the person may not be here, or may not join `room`. At most three queries."""
    user = active_user(user_id)
    if room is not None:
        rooms.check(user, room)
    return Standing(Person.of(user), last_position())


def last_position() -> int:
    return EventStream.objects.values_list("last_position", flat=True).first() or 0


def check_reach(after: int, until: int) -> None:
    """Raises TooMuchMissed unless the log still holds everything that happened in (after, until]."""
    if after > until:
        raise TooMuchMissed("unknown_cursor", "This cursor is of another time line. Please fetch the present state.")
    oldest = Event.objects.published().values_list("position", flat=True).first()
    if after < until and (oldest is None or after < oldest - 1):
        raise TooMuchMissed(
            "cursor_too_old", "What happened after this cursor is gone. Please fetch the present state."
        )


def check_extent(user_id: UUID, after: int, until: int) -> None:
    """Raises TooMuchMissed unless all that happened in (after, until] is there and not too much for a replay."""
    check_reach(after, until)
    events = Event.objects.published().visible_to(active_user(user_id)).filter(position__gt=after)
    if events[limits.REPLAY_EVENTS : limits.REPLAY_EVENTS + 1].exists():
        raise TooMuchMissed("missed_too_much", "Too much happened after this cursor. Please fetch the present state.")


def missed(user_id: UUID, after: int, until: int) -> list[Missed]:
    """The next events in (after, until] that this person may be told of, a page at most; an empty list ends it.

    All were visible when they happened. Of a subject that is not visible any more, only the event that took it away
    may be told.
    """
    user = active_user(user_id)
    events = list(
        Event.objects.published()
        .visible_to(user)
        .filter(position__gt=after, position__lte=until)
        .select_related("origin")
        .prefetch_related(Prefetch("notifications", Notification.objects.visible_to(user)))[: limits.REPLAY_PAGE]
    )
    person, scopes = Person.of(user), current_scopes(events)
    return [
        Missed(
            StreamEvent(message_of(event, list(event.notifications.all()))),
            may_still_see(event, person.id, person.role, scopes),
        )
        for event in events
    ]
