"""How a published event travels through the channel layer: as what message, and in which group.

Every hub is in `STREAM_GROUP` and gets each event once, with all that it needs to serve each of its connections by its
rights. A group for each audience would save a hub some messages, but silence would then mean either "nothing for you"
or "something was lost" (docs/adr/0007-every-hub-gets-every-event.md). What leaves no trace (typing, say) goes to the
groups of its audience.
"""

from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet

from notifications.models import Event, Notification
from notifications.models.event import Scope
from notifications.timestamps import iso

STREAM_GROUP = "stream"
STAFF_GROUP = "staff"

# An event that notifies more people than this names none of them in its message: each hub asks for its own.
NOTIFICATIONS_IN_MESSAGE = 100


def user_group(user_id: UUID | str) -> str:
    return f"user.{user_id}"


def published_after(position: int) -> QuerySet[Any]:
    """The published events after a position, in order, each with what `message_of` needs; `told` has notifications."""
    # An announcement's batch has a thousand; more than fit into a message need not be read.
    some = Notification.objects.order_by("pk")[: NOTIFICATIONS_IN_MESSAGE + 1]
    return (
        Event.objects.published()
        .filter(position__gt=position)
        .select_related("origin")
        .prefetch_related(Prefetch("notifications", some, to_attr="told"))
    )


def message_of(event: Event, notifications: list[Notification]) -> dict[str, Any]:
    """The group message: everything a hub needs to serve each of its connections by its rights, without a query.

    `notifications` is null when they are too many to name. Payloads are JSON text, or null where a customer may
    not have them. An announcement's batch carries the payload of the event it belongs to.
    """
    subject = event.origin or event
    return {
        "type": "hub.event",
        "position": event.position,
        "event_id": str(event.pk),
        "entity": event.entity,
        "action": event.action,
        "entity_id": str(event.entity_id),
        "ticket_id": str(event.ticket_id) if event.ticket_id else None,
        "scope": _as_json(event.scope),
        "previous_scope": _as_json(event.previous_scope),
        "payload_staff": subject.payload_staff,
        "payload_customer": subject.payload_customer,
        "notifications": (
            [
                {
                    "id": str(notification.pk),
                    "recipient_id": str(notification.recipient_id),
                    "type": notification.type,
                    "message": notification.message,
                    "related_type": notification.related_type,
                    "related_id": str(notification.related_id),
                    "created_at": iso(notification.created_at),
                }
                for notification in notifications
            ]
            if len(notifications) <= NOTIFICATIONS_IN_MESSAGE
            else None
        ),
    }


def _as_json(scope: Scope) -> dict[str, str | None]:
    return {"visibility": scope.visibility, "person_id": str(scope.person_id) if scope.person_id else None}
