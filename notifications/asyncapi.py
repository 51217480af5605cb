"""`docs/asyncapi.yaml`: what goes over the sockets, at both doors, as AsyncAPI 3.0.

Entities are taken from the OpenAPI document, which is made from the serializers that write them; what is the sockets'
own is written down here. The suite compares every frame that a server really sends with it.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from django.conf import settings
from django.utils.module_loading import import_string
from drf_spectacular.generators import SchemaGenerator

from notifications import catalogue
from notifications.sockets import limits, plain_door, socketio_door
from notifications.sockets.rooms import PLAIN_ROOMS

Schema = dict[str, Any]

HEADER = "# Written by `manage.py document_sockets`: change notifications/asyncapi.py or the serializers instead.\n"

CODES = (
    "account_inactive",
    "another_person",
    "forbidden",
    "going_away",
    "internal",
    "invalid",
    "malformed_json",
    "not_found",
    "origin_not_allowed",
    "signed_out",
    "slow",
    "token_expired",
    "token_invalid",
    "too_large",
    "too_many_connections",
    "too_many_messages",
    "too_many_rooms",
    "unauthenticated",
    "unavailable",
    "unknown_operation",
    "unknown_room",
)
REASONS = ("cursor_too_old", "missed_too_much", "unknown_cursor", "role_changed", "gap")

# The entity of each event that tells of a change: the component of the OpenAPI document.
UPDATES = {
    "ticket.update": "Ticket",
    "comment.update": "Comment",
    "attachment.update": "Attachment",
    "kb.update": "Article",
    "user.update": "User",
}
# What `data` of a notification may be: the entities, and of a `webhook_test` the endpoint.
_SUBJECTS = (*UPDATES.values(), "WebhookEndpoint")


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(description: str = "", optional: Iterable[str] = (), **properties: Schema) -> Schema:
    """An object with these properties and no others."""
    required = [name for name in properties if name not in set(optional)]
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


TEXT: Schema = {"type": "string"}
UUID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time"}
CURSOR: Schema = {"type": "integer", "minimum": 0, "description": "The place in the stream."}
SECONDS: Schema = {"type": "integer", "minimum": 0, "description": "Seconds it holds; 0: it has ended."}
ROOM: Schema = {
    "type": "string",
    "pattern": f"^({'|'.join(sorted(PLAIN_ROOMS))}|ticket:[0-9a-f-]{{36}})$",
    "description": "`tickets`, `comments`, `attachments`, `kb`, `users` or `ticket:<id>`.",
}


def const(value: Any) -> Schema:
    return {"const": value}


def enum(values: Iterable[str], description: str = "") -> Schema:
    return {"type": "string", "enum": list(values), **({"description": description} if description else {})}


_AFTER: Schema = {**CURSOR, "description": "The last cursor you have: what was missed since comes first."}
_ACTIVE: Schema = {"type": "boolean", "default": True, "description": "False: it has ended."}
_INTERNAL: Schema = {"type": "boolean", "default": False, "description": "True: an internal note, told to staff only."}

# What a client asks: its arguments, and what the answer has besides `ok`.
OPERATIONS: dict[str, tuple[str, Schema, Schema]] = {
    "join": (
        "See what happens in a room. The answer comes after the replay.",
        record(optional=["after"], room=ROOM, after=_AFTER),
        record(ok=const(True), room=ROOM, cursor=CURSOR),
    ),
    "leave": ("See it no more.", record(room=ROOM), record(ok=const(True))),
    "typing": (
        "Tell those who look at a ticket that you write.",
        record(optional=["active", "is_internal"], ticket_id=UUID, active=_ACTIVE, is_internal=_INTERNAL),
        record(ok=const(True)),
    ),
    "viewing": (
        "Say that you look at a ticket, and learn who else does.",
        record(optional=["active"], ticket_id=UUID, active=_ACTIVE),
        record(ok=const(True), viewers={"type": "array", "items": ref("Person"), "description": "For staff."}),
    ),
    "notification.read": (
        "Mark a notification of yours as read.",
        record(id=UUID),
        record(ok=const(True), unread={"type": "integer", "minimum": 0}),
    ),
    "auth": (
        "Go on with a new token of the same person.",
        record(token=TEXT),
        record(ok=const(True)),
    ),
}


def _own_events() -> dict[str, Schema]:
    """The payloads that are no entity's change."""
    head = {
        "id": UUID,
        "type": ref("NotificationType"),
        "message": TEXT,
        "related_id": UUID,
        "related_type": enum((*dict.fromkeys(row.entity for row in catalogue.ROWS), "webhook")),
        "created_at": TIME,
    }
    data = {"anyOf": [ref(name) for name in _SUBJECTS]}
    passing = record(
        "Nothing of it is stored or replayed. The same person's next one replaces it.",
        ticket_id=UUID,
        person=ref("Person"),
        expires_in=SECONDS,
    )
    return {
        "NotificationHead": record("What a person was told.", **head),
        "NotificationCreated": record(
            "A notification with the entity it is about; its own fields stand beside it once more.",
            event=const("notification.created"),
            notification=ref("NotificationHead"),
            data=data,
            cursor=CURSOR,
            **head,
        ),
        "NotificationRead": record(
            "Read in one of your tabs, or by the API.",
            id={**_or_null(UUID), "description": "Null: all there were."},
            read_at=TIME,
            unread={"type": "integer", "minimum": 0, "description": "How many were left unread."},
            cursor=CURSOR,
        ),
        "WebhookReceived": {
            "type": "object",
            "description": "A webhook that the internal receiver took for you, as it was signed.",
            "properties": {"cursor": CURSOR},
            "required": ["cursor"],
        },
        "Typing": passing,
        "Presence": passing,
        "ResyncRequired": record(
            "There is no replay: fetch what you show, and go on.",
            optional=["room"],
            reason=enum(REASONS),
            message=TEXT,
            cursor=CURSOR,
            room={**ROOM, "description": "Where it is about one room."},
        ),
    }


EVENTS = {
    **{event: f"{entity}Update" for event, entity in UPDATES.items()},
    "notification": "NotificationCreated",
    "notification.read": "NotificationRead",
    "webhook.received": "WebhookReceived",
    "typing": "Typing",
    "presence": "Presence",
    "resync_required": "ResyncRequired",
}


# --- entities -------------------------------------------------------------------------------------------------------
def entity_schemas() -> dict[str, Schema]:
    """What the serializers write, with everything it refers to, as JSON Schema: complete and closed."""
    components = SchemaGenerator().get_schema(request=None, public=True)["components"]["schemas"]
    for_staff = _for_staff()
    found: dict[str, Schema] = {}
    waiting = [*_SUBJECTS, "Person"]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        schema = _sent(components[name])
        if name in UPDATES.values():
            schema["properties"]["deleted_at"] = {**TIME, "description": "Of what was deleted only."}
            schema["required"] = [it for it in schema["required"] if it not in for_staff]
        found[name] = schema
        waiting += _referred(schema)
    return found


def _for_staff() -> set[str]:
    """Fields that customers do not get."""
    found: set[str] = set()
    for row in catalogue.ROWS:
        paths = row.serializer.values() if isinstance(row.serializer, Mapping) else [row.serializer]
        for path in paths:
            found |= set(getattr(import_string(path).Meta, "staff_reads", ()))
    return found


def _sent(schema: Any) -> Any:
    """An OpenAPI 3.0 schema of an answer as JSON Schema. What is sent is sent whole."""
    if isinstance(schema, list):
        return [_sent(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _sent(value) for name, value in schema.items() if name not in ("nullable", "readOnly", "default")}
    if "properties" in kept:
        kept["required"] = list(kept["properties"])
        kept["additionalProperties"] = False
    if len(kept.get("allOf", ())) == 1:
        (only,) = kept.pop("allOf")
        kept = only if not kept else {**kept, "allOf": [only]}
    return _or_null(kept) if schema.get("nullable") else kept


def _or_null(schema: Schema) -> Schema:
    if "type" in schema and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def _referred(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else []
        return own + [name for value in schema.values() for name in _referred(value)]
    if isinstance(schema, list):
        return [name for item in schema for name in _referred(item)]
    return []


def _update(entity: str) -> Schema:
    """The two forms of a change: with the entity, or only gone from sight."""
    changed = record(action=enum(("created", "updated", "deleted")), data=ref(entity), cursor=CURSOR)
    removed = record(
        "Still there, but no longer for your eyes.", action=const("removed"), data=record(id=UUID), cursor=CURSOR
    )
    return {"oneOf": [changed, removed]}


def schemas() -> dict[str, Schema]:
    """Every component, by name."""
    return {
        **entity_schemas(),
        **{f"{entity}Update": _update(entity) for entity in UPDATES.values()},
        **_own_events(),
        "Refusal": record(
            "Why not. `code` stays, `message` may change.",
            optional=["retry_after"],
            code=enum(CODES),
            message={"type": "string", "minLength": 1},
            retry_after={"type": "number", "minimum": 0, "description": "Seconds after which to come back."},
        ),
        "Refused": record(ok=const(False), error=ref("Refusal")),
    }


# --- the document ---------------------------------------------------------------------------------------------------
def _framed(payload: Schema, **head: Schema) -> Schema:
    """A payload as a frame of the plain door: its fields beside those of the frame, which stand before them."""
    if "oneOf" in payload:
        return {"oneOf": [_framed(form, **head) for form in payload["oneOf"]]}
    framed = copy.deepcopy(payload)
    framed["properties"] = {**head, **{name: it for name, it in payload["properties"].items() if name not in head}}
    names = [*head, *(name for name in payload.get("required", ()) if name not in head)]
    framed["required"] = names
    return framed


_FRAME_ID: Schema = {
    "oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}],
    "description": "Yours; the answer repeats it.",
}


def _socketio_messages(components: dict[str, Schema]) -> dict[str, Schema]:
    messages: dict[str, Schema] = {}
    for event, component in EVENTS.items():
        messages[event] = {"name": event, "payload": ref(component)}
    for operation, (summary, arguments, answer) in OPERATIONS.items():
        messages[f"{operation}.ask"] = {"name": operation, "summary": summary, "payload": arguments}
        messages[f"{operation}.answer"] = {"name": operation, "payload": {"oneOf": [answer, ref("Refused")]}}
    return messages


def _plain_messages(components: dict[str, Schema]) -> dict[str, Schema]:
    messages: dict[str, Schema] = {
        "ready": {
            "summary": "You are signed in. Comes once, before anything else.",
            "payload": record(type=const("ready"), user=ref("Person"), cursor=CURSOR),
        },
        "error": {
            "summary": "A frame that could not be answered, or why the connection is closed.",
            "payload": record(type=const("error"), error=ref("Refusal")),
        },
        "sign-in": {
            "summary": "The first frame of who has not signed in otherwise.",
            "payload": record(optional=["id", "after"], type=const("auth"), token=TEXT, after=_AFTER, id=_FRAME_ID),
        },
    }
    for event, component in EVENTS.items():
        head = {"type": const("event"), "event": const(event)}
        messages[event] = {"name": event, "payload": _framed(components[component], **head)}
    for operation, (summary, arguments, answer) in OPERATIONS.items():
        head = {"type": const(operation), "id": _FRAME_ID}
        if "id" in arguments["properties"]:  # the frame's `id` stands before an argument of that name
            arguments = record(notification_id=arguments["properties"]["id"])
        messages[f"{operation}.ask"] = {"name": operation, "summary": summary, "payload": _framed(arguments, **head)}
        acknowledged = {"type": const("ack"), "id": _FRAME_ID}
        forms = [_framed(answer, **acknowledged), _framed(components["Refused"], **acknowledged)]
        messages[f"{operation}.answer"] = {"name": operation, "payload": {"oneOf": forms}}
    return messages


def _operations(door: str, own: Iterable[str] = ()) -> dict[str, Schema]:
    def message(name: str) -> Schema:
        return {"$ref": f"#/channels/{door}/messages/{name}"}

    channel = {"$ref": f"#/channels/{door}"}
    found: dict[str, Schema] = {
        f"{door}.tell": {
            "action": "send",
            "channel": channel,
            "summary": "What happens.",
            "messages": [message(name) for name in (*own, *EVENTS)],
        }
    }
    for operation, (summary, _, _) in OPERATIONS.items():
        found[f"{door}.{operation}"] = {
            "action": "receive",
            "channel": channel,
            "summary": summary,
            "messages": [message(f"{operation}.ask")],
            "reply": {"channel": channel, "messages": [message(f"{operation}.answer")]},
        }
    return found


def sockets_document() -> Schema:
    """The whole document."""
    components = schemas()
    after = {"type": "integer", "minimum": 0, "description": "The last cursor you have."}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Helpdesk sockets",
            "version": settings.SPECTACULAR_SETTINGS["VERSION"],
            "description": "Two doors, one house: stock Socket.IO and plain WebSocket take the same operations and "
            "tell the same events. Rooms, cursors, recovery and limits are explained in realtime.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "socketio": {
                "host": "localhost:5000",
                "protocol": "socket.io",
                "protocolVersion": "5",
                "pathname": f"/{socketio_door.PATH}/",
                "description": "Socket.IO 4 on the default namespace; `auth: {token, after}`. The payload of a "
                "message is the one argument of the event; an answer is its acknowledgement.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            },
            "plain": {
                "host": "localhost:5000",
                "protocol": "ws",
                "protocolVersion": "13",
                "pathname": "/ws/",
                "description": f"Subprotocols `{plain_door.SUBPROTOCOL}` and `{plain_door.BEARER}<token>`.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            },
        },
        "channels": {
            "socketio": {
                "address": "/",
                "servers": [{"$ref": "#/servers/socketio"}],
                "messages": _socketio_messages(components),
            },
            "plain": {
                "address": "/ws/",
                "servers": [{"$ref": "#/servers/plain"}],
                "description": f"A frame has at most {limits.FRAME_BYTES} bytes.",
                "bindings": {"ws": {"query": {"type": "object", "properties": {"after": after}}}},
                "messages": _plain_messages(components),
            },
        },
        "operations": {
            **_operations("socketio"),
            **_operations("plain", own=("ready", "error")),
            "plain.sign-in": {
                "action": "receive",
                "channel": {"$ref": "#/channels/plain"},
                "messages": [{"$ref": "#/channels/plain/messages/sign-in"}],
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Or the session cookie of a signed-in browser, from an allowed origin.",
                }
            },
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(document: Schema) -> str:
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
