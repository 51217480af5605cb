"""How a published event travels through the channel layer: to which groups, and as what message.

Groups are audiences, never rooms as a client names them. A process's hub is in the groups of the people connected
to it; it gets each event once per group and knows by the position that it has it already.
"""

from typing import Any
from uuid import UUID

from notifications.models import Event, Notification, Visibility
from notifications.models.event import Scope
from notifications.timestamps import iso

STAFF_GROUP = "staff"
ADMINS_GROUP = "admins"
PUBLIC_GROUP = "public"

# An event that notifies more people than this names none of them in its message: each hub asks for its own.
NOTIFICATIONS_IN_MESSAGE = 100


def user_group(user_id: UUID | str) -> str:
    return f"user.{user_id}"


def groups_of(event: Event, notifications: list[Notification]) -> list[str]:
    """Every group in which somebody may be told of this event: by its scope now and before, or by a notification."""
    groups = dict.fromkeys((*_scope_groups(event.scope), *_scope_groups(event.previous_scope)))
    if event.entity == "user":
        # The person's own connections act on a changed role or a deactivation.
        groups[user_group(event.entity_id)] = None
    if len(notifications) > NOTIFICATIONS_IN_MESSAGE:
        groups[PUBLIC_GROUP] = None
    else:
        groups.update(dict.fromkeys(user_group(notification.recipient_id) for notification in notifications))
    return list(groups)


def _scope_groups(scope: Scope) -> list[str]:
    match scope.visibility:
        case Visibility.PERSON:
            return [user_group(scope.person_id)] if scope.person_id else []
        case Visibility.ADMINS:
            return [ADMINS_GROUP]
        case Visibility.STAFF:
            return [STAFF_GROUP]
        case Visibility.REQUESTER:
            return [STAFF_GROUP, *([user_group(scope.person_id)] if scope.person_id else [])]
        case _:
            return [PUBLIC_GROUP]


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
