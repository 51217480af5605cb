"""The event that is measured, the same at every server."""

from typing import Any
from uuid import UUID

from notifications.models import Event, EventStream, Visibility
from notifications.payloads import encode
from notifications.stream import message_of

PRODUCT, TEXTBOOK = "product", "textbook"
TEXT = "The printer on the second floor prints every page twice. " * 2


def comment() -> dict[str, Any]:
    """An entity that makes a frame of about 400 bytes; the Node servers send the same."""
    return {
        "id": "0193a6c4-7c1e-7000-8000-000000000000",
        "ticket_id": "0193a6c4-7c1e-7000-8000-000000000001",
        "author": {"id": "0193a6c4-7c1e-7000-8000-000000000002", "name": "Jane Doe", "role": "agent"},
        "content": TEXT,
        "internal": False,
        "created_at": "2026-01-01T12:00:00.000000Z",
    }


class Stream:
    """Events with the positions that come next. Their rows are missing: nobody reads the log where nothing is lost."""

    def __init__(self) -> None:
        self._position = EventStream.objects.get(pk=1).last_position

    def next(self, count: int) -> list[dict[str, Any]]:
        """What the publisher would send for `count` events."""
        self._position += count
        return [_group_message(self._position - number) for number in reversed(range(count))]

    def keep(self) -> None:
        """Note in the stream how far it has come: whoever begins to follow it now begins there."""
        EventStream.objects.filter(pk=1).update(last_position=self._position)


def _group_message(position: int) -> dict[str, Any]:
    """What the publisher sends for a comment that the requester of its ticket and the staff may see."""
    fields = comment()
    event = Event(
        position=position,
        entity="comment",
        action="created",
        entity_id=UUID(fields["id"]),
        ticket_id=UUID(fields["ticket_id"]),
        visibility=Visibility.REQUESTER,
        person_id=UUID(fields["author"]["id"]),
        payload_staff=encode(fields),
        payload_customer=encode(fields),
    )
    return message_of(event, [])
