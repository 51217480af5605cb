"""What a connection missed, read from the event log. Database work: call it in a thread."""

from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from notifications.conversation import MOVED
from notifications.models import Event, EventStream, Notification
from notifications.rights import current_scopes, present_scopes
from notifications.sockets import limits, rooms
from notifications.sockets.events import StreamEvent
from notifications.sockets.people import Person, active_user
from notifications.stream import message_of, published_after


class TooMuchMissed(Exception):
    """The log cannot, or should not, tell everything since that cursor: the client has to fetch the present state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def standing(user_id: UUID, room: str | None = None) -> Person:
    """Who somebody is now. Raises Refusal when they may not be here, or may not join `room`. At most two queries."""
    user = active_user(user_id)
    if room is not None:
        rooms.check(user, room)
    return Person.of(user)


def last_position() -> int:
    return EventStream.objects.values_list("last_position", flat=True).first() or 0


def pruned_position() -> int:
    """The last position of which something was removed: the log is whole after it."""
    return EventStream.objects.values_list("pruned_position", flat=True).first() or 0


def check_reach(after: int, last: int) -> None:
    """Raises TooMuchMissed unless the log still holds everything after this cursor; `last` is the last position."""
    if after > last:
        raise TooMuchMissed("unknown_cursor", "This cursor is of another time line. Please fetch the present state.")
    check_is_there(after)


def check_is_there(after: int) -> None:
    """Raises TooMuchMissed when something after this cursor was removed."""
    # Single older events may still be there: the latest of what exists (docs/adr/0004-soft-delete-and-scopes.md).
    if after < pruned_position():
        raise TooMuchMissed(
            "cursor_too_old", "What happened after this cursor is gone. Please fetch the present state."
        )


def check_extent(user_id: UUID, after: int, until: int) -> None:
    """Raises TooMuchMissed unless all that happened in (after, until] is there, not too much for a replay, and the
    person saw the same things before it as after it."""
    check_reach(after, last_position())
    if until - after > limits.REPLAY_SPAN:
        raise TooMuchMissed("missed_too_much", "Too much happened after this cursor. Please fetch the present state.")
    events = Event.objects.published().visible_to(active_user(user_id)).filter(position__gt=after, position__lte=until)
    events = events.exclude(action=MOVED)  # of a large conversation, to staff, there would be many that tell nothing
    if events[limits.REPLAY_EVENTS : limits.REPLAY_EVENTS + 1].exists():
        raise TooMuchMissed("missed_too_much", "Too much happened after this cursor. Please fetch the present state.")
    own = Event.objects.filter(entity="user", entity_id=user_id, position__gt=after, position__lte=until)
    if own.filter(changes__has_key="role").exists():
        raise TooMuchMissed("role_changed", "You see other things than before. Please fetch the present state.")


def missed(user_id: UUID, after: int, until: int) -> list[StreamEvent]:
    """The next events in (after, until] that this person may be told of, a page at most; an empty list ends it.

    All were visible when they happened; the events know what is still.
    """
    user = active_user(user_id)
    events = list(
        Event.objects.published()
        .visible_to(user)
        .filter(position__gt=after, position__lte=until)
        .select_related("origin")
        .prefetch_related(Prefetch("notifications", Notification.objects.visible_to(user), to_attr="told"))[
            : limits.REPLAY_PAGE
        ]
    )
    return _as_told_now(events)


def log(after: int, until: int) -> list[StreamEvent]:
    """The next events in (after, until], whoever may be told of them, a page at most."""
    return _as_told_now(list(published_after(after).filter(position__lte=until)[: limits.REPLAY_PAGE]))


def _as_told_now(events: list[Any]) -> list[StreamEvent]:
    """`events` have their notifications as `told`."""
    scopes = current_scopes(events)
    return [StreamEvent(message_of(event, event.told), present_scopes(event, scopes)) for event in events]
