"""Rights at the moment of telling: an event was visible when it happened, but may this person still see its subject?

The event log itself knows: the latest event of an entity carries the scope it has now. An entity that hangs on a
ticket follows the ticket besides, so that a ticket moved to another requester takes its conversation along.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import OuterRef, Subquery

from notifications.models import Event
from notifications.models.event import Scope


def current_scopes(events: Iterable[Event]) -> dict[UUID, Scope]:
    """The present scope of every entity and ticket that the events speak of, by id. One query."""
    ids = {id_ for event in events for id_ in (event.entity_id, event.ticket_id) if id_ is not None}
    if not ids:
        return {}
    latest = (
        Event.objects.filter(entity_id=OuterRef("entity_id")).exclude(action="announced").order_by("-id").values("id")
    )
    rows = Event.objects.filter(entity_id__in=ids, id=Subquery(latest[:1])).values_list(
        "entity_id", "visibility", "person_id"
    )
    return {entity_id: Scope(visibility, person_id) for entity_id, visibility, person_id in rows}


def present_scopes(event: Event, scopes: dict[UUID, Scope]) -> tuple[Scope, ...]:
    """What all must admit whoever may be told of the event now; `scopes` comes from `current_scopes`."""
    return tuple(scopes.get(id_, event.scope) for id_ in (event.entity_id, event.ticket_id) if id_ is not None)


def may_still_see(event: Event, user_id: UUID, role: str, scopes: dict[UUID, Scope]) -> bool:
    """Whether the person may be told of the event now."""
    return all(scope.admits(user_id, role) for scope in present_scopes(event, scopes))
