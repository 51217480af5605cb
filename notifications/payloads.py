"""Entities and notifications as JSON text, frozen when a change happens."""

import json
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.module_loading import import_string

from notifications.models import Event, Notification
from notifications.timestamps import iso

STAFF, CUSTOMER = "staff", "customer"


def encode(value: Any) -> str:
    """Compact JSON, readable characters kept: what is stored, signed and sent."""
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":"))


def entity_payload(serializer: str, instance: Any, audience: str, action: str) -> str:
    """The entity as the API shows it to staff or customers; after a deletion with `deleted_at` besides."""
    data = dict(import_string(serializer)(instance, context={"audience": audience}).data)
    if action == "deleted":
        data["deleted_at"] = iso(instance.deleted_at)
    return encode(data)


def notification_head(
    id_: UUID | str, type_: str, message: str, related_id: UUID | str, related_type: str, created_at: str
) -> dict[str, str]:
    """The notification as webhooks and sockets carry it."""
    return {
        "id": str(id_),
        "type": type_,
        "message": message,
        "related_id": str(related_id),
        "related_type": related_type,
        "created_at": created_at,
    }


def head_of(notification: Notification) -> dict[str, str]:
    return notification_head(
        notification.pk,
        notification.type,
        notification.message,
        notification.related_id,
        notification.related_type,
        iso(notification.created_at),
    )


def webhook_body(notification: Notification, event: Event, role: str) -> bytes:
    """The body of a delivery, the same bytes on every attempt: the notification's head and the frozen payload."""
    subject = event.origin or event
    data = subject.payload_for(role) or "null"
    head = encode(head_of(notification))
    return f'{{"event":"notification.created","notification":{head},"data":{data}}}'.encode()
