"""What the public contract promises about the shape of things, checked field by field."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from standardwebhooks import Webhook

HEAD = ("id", "type", "message", "related_id", "related_type", "created_at")
"""A notification's own fields: the same six in the record, the webhook and the socket event."""

RELATED_TYPE = {
    "comment_on_ticket": "comment",
    "reply_to_comment": "comment",
    "comment_updated": "comment",
    "comment_deleted": "comment",
    "new_ticket": "ticket",
    "ticket_updated": "ticket",
    "ticket_deleted": "ticket",
    "user_created": "user",
    "user_deactivated": "user",
    "kb_article_created": "kb_article",
    "attachment_added": "attachment",
    "attachment_updated": "attachment",
    "attachment_deleted": "attachment",
    "webhook_test": "webhook",
}

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
"""UTC with microseconds and `Z`."""

LARGEST_BODY = 90_000
"""Bytes: stock `express.json()` refuses more than 100 KB."""


def moment(value: Any) -> datetime:
    assert isinstance(value, str), value
    assert MOMENT.fullmatch(value), f"not UTC with microseconds and Z: {value}"
    return datetime.fromisoformat(value).astimezone(UTC)


def check_error(answer: Any, *fields: str) -> dict[str, Any]:
    """The one shape of an error: {"error": {"code", "message", "fields"}}. `fields` must be named among its fields."""
    assert isinstance(answer, dict), answer
    assert set(answer) == {"error"}, answer
    error = answer["error"]
    assert set(error) == {"code", "message", "fields"}, error
    assert isinstance(error["code"], str), error
    assert re.fullmatch(r"[a-z][a-z0-9_]*", error["code"]), error
    assert isinstance(error["message"], str), error
    assert error["message"].strip(), error
    assert isinstance(error["fields"], dict), error
    # An item of a list is named by its place: `tags.0`.
    named = {name.split(".")[0] for name in error["fields"]}
    assert set(fields) <= named, error
    return error


def check_refusal(answer: Any) -> dict[str, Any]:
    """A socket's refusal: {"ok": false, "error": {"code", "message"}}; a plain frame has `type` and `id` besides."""
    assert answer["ok"] is False, answer
    error = answer["error"]
    assert isinstance(error["code"], str), error
    assert error["code"], error
    assert isinstance(error["message"], str), error
    assert error["message"].strip(), error
    return error


def check_times(entity: dict[str, Any]) -> None:
    """Every `*_at` of an entity, nested ones too, is a moment or null."""
    for key, value in entity.items():
        if key.endswith("_at") and value is not None:
            moment(value)
        if isinstance(value, dict):
            check_times(value)


def check_record(record: dict[str, Any], type: str, related_id: str) -> dict[str, Any]:
    """A row of `/api/notifications`; gives its head."""
    assert set(HEAD) <= set(record), record
    UUID(record["id"])
    assert record["type"] == type
    assert record["related_id"] == related_id
    assert record["related_type"] == RELATED_TYPE[type]
    assert record["message"].strip()
    moment(record["created_at"])
    return {key: record[key] for key in HEAD}


def check_webhook(request: dict[str, Any], secret: str, head: dict[str, Any], data: dict[str, Any]) -> None:
    """The whole of a webhook request: headers, signature (PyPI's `standardwebhooks`), body and its limit."""
    headers, body = request["headers"], request["body"]
    raw = body if isinstance(body, bytes) else body.encode()
    assert headers["content-type"].split(";")[0] == "application/json", headers
    assert headers["user-agent"], headers
    assert headers["webhook-id"], headers
    assert headers["webhook-timestamp"].isdigit(), headers
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]+=*( v1a?,[A-Za-z0-9+/]+=*)*", headers["webhook-signature"]), headers
    assert len(raw) < LARGEST_BODY
    Webhook(secret).verify(raw, headers)
    assert json.loads(raw) == {"event": "notification.created", "notification": head, "data": data}


def check_payload(payload: dict[str, Any], head: dict[str, Any], data: dict[str, Any]) -> None:
    """The socket's `notification`: the webhook's three, the notification's own fields beside them, and the cursor."""
    assert set(payload) == {"event", "notification", "data", "cursor", *HEAD}, sorted(payload)
    assert payload["event"] == "notification.created"
    assert payload["notification"] == head
    assert payload["data"] == data
    assert payload["cursor"] is not None
    assert {key: payload[key] for key in HEAD} == head


def check_secret(secret: str) -> None:
    """`whsec_` and 24–64 random bytes in base64."""
    assert secret.startswith("whsec_"), "a secret without its prefix"
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
