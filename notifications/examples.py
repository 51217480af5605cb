"""What a webhook of each type looks like, made by what makes the real ones: the catalogue's rule and the serializer.

The objects are never saved and nothing is asked of the database; ids and times are always the same, so that an example
is known again wherever it turns up.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from knowledge.models import Article, ArticleStatus
from notifications import catalogue, payloads
from notifications.catalogue import WEBHOOK_DISABLED, WEBHOOK_TEST, Change, Row, Rule
from notifications.models import EndpointState, WebhookEndpoint
from notifications.timestamps import iso
from tickets.models import Attachment, Status, Ticket

MOMENT = datetime(2025, 11, 17, 12, 0, tzinfo=UTC)
ENDPOINT_SERIALIZER = "notifications.api.serializers.WebhookEndpointSerializer"


def _id(number: int) -> UUID:
    return UUID(f"01234567-89ab-7cde-8000-{number:012x}")


@dataclass(frozen=True)
class Example:
    """What a notification and its webhook say. `payload_…`: the entity as JSON text, for staff and for customers."""

    type: str
    message: str
    related_type: str
    related_id: UUID
    payload_staff: str
    payload_customer: str

    def body(self, role: str) -> dict[str, Any]:
        """The webhook's body as somebody of this role gets it."""
        head = payloads.notification_head(
            _id(1), self.type, self.message, self.related_id, self.related_type, iso(MOMENT)
        )
        data = json.loads(self.payload_customer if role == Role.CUSTOMER else self.payload_staff)
        return {"event": "notification.created", "notification": head, "data": data}


def of(type_: str) -> Example:
    """The example of a type of the catalogue; KeyError for another."""
    if type_ == WEBHOOK_TEST:
        return of_endpoint(_endpoint(), catalogue.TEST_MESSAGE)
    if type_ == WEBHOOK_DISABLED:
        return _of_disabled()
    row, rule = _RULES[type_]
    scene = _SCENES[type_]
    instance = scene.instance()
    change = Change(row.signal, instance, row.action, scene.changes, _agent())
    return Example(
        type_,
        rule.message_for(change),
        row.entity,
        instance.pk,
        payloads.entity_payload(row.serializer, instance, payloads.STAFF, row.action),
        payloads.entity_payload(row.serializer, instance, payloads.CUSTOMER, row.action),
    )


def of_endpoint(endpoint: WebhookEndpoint, message: str, serializer: str = ENDPOINT_SERIALIZER) -> Example:
    """What a `webhook_test` of this endpoint says."""
    payload = payloads.entity_payload(serializer, endpoint, payloads.STAFF, "test")
    return Example(WEBHOOK_TEST, message, "webhook", endpoint.pk, payload, payload)


def payload_of_disabled(endpoint: WebhookEndpoint) -> str:
    """What a `webhook_disabled` says of the endpoint: to the owner's other receivers, who are not to call this one."""
    shown = json.loads(payloads.entity_payload(ENDPOINT_SERIALIZER, endpoint, payloads.STAFF, "disabled"))
    return payloads.encode({**shown, "url": endpoint.masked_url})


def _of_disabled() -> Example:
    endpoint = _endpoint()
    endpoint.state = EndpointState.DISABLED
    endpoint.disabled_reason = "It answered 410 Gone: it does not want webhooks any more."
    payload = payload_of_disabled(endpoint)
    return Example(WEBHOOK_DISABLED, catalogue.disabled_message(endpoint), "webhook", endpoint.pk, payload, payload)


# --- What is in them ------------------------------------------------------------------------------------------------
_TIMES: dict[str, Any] = {"created_at": MOMENT, "updated_at": MOMENT}


def _endpoint() -> WebhookEndpoint:
    return WebhookEndpoint(id=_id(2), owner_id=_id(11), url="https://hooks.example.com/helpdesk", **_TIMES)


def _customer() -> User:
    return User(
        id=_id(10), username="john", email="john.doe@example.com", name="John Doe", role=Role.CUSTOMER, **_TIMES
    )


def _agent() -> User:
    return User(
        id=_id(11), username="alex", email="alex.agent@example.com", name="Alex Agent", role=Role.AGENT, **_TIMES
    )


def _ticket(**fields: Any) -> Ticket:
    values = {"status": Status.NEW, **_TIMES, **fields}
    ticket = Ticket(
        id=_id(3),
        number=1042,
        title="Issue Title",
        description="The printer on the second floor prints blank pages.",
        requester=_customer(),
        assignee=_agent(),
        **values,
    )
    ticket._prefetched_tags(["printer"])
    return ticket


def _comment(**fields: Any) -> Comment:
    values = {"author": _customer(), **_TIMES, **fields}
    return Comment(id=_id(4), ticket=_ticket(), content="This is the comment content", **values)


def _reply() -> Comment:
    question = Comment(id=_id(5), ticket=_ticket(), author=_customer(), content="Which toner does it take?", **_TIMES)
    return _comment(parent=question, author=_agent())


def _attachment(**fields: Any) -> Attachment:
    values = {"filename": "blank-page.png", **_TIMES, **fields}
    return Attachment(
        id=_id(6), ticket=_ticket(), uploaded_by=_customer(), content_type="image/png", size=48_213, **values
    )


def _article() -> Article:
    return Article(
        id=_id(7),
        title="Blank pages",
        body="Take the toner out, *shake it*, put it back.",
        status=ArticleStatus.PUBLISHED,
        author=_agent(),
        published_at=MOMENT,
        **_TIMES,
    )


def _deactivated() -> User:
    user = _customer()
    user.is_active, user.deactivated_at = False, MOMENT
    return user


@dataclass(frozen=True)
class _Scene:
    instance: Callable[[], Any]
    changes: dict[str, list] = field(default_factory=dict)


_SCENES = {
    "comment_on_ticket": _Scene(_comment),
    "reply_to_comment": _Scene(_reply),
    "comment_updated": _Scene(_comment, {"content": ["This is the commend content", "This is the comment content"]}),
    "comment_deleted": _Scene(lambda: _comment(deleted_at=MOMENT)),
    "new_ticket": _Scene(_ticket),
    "ticket_updated": _Scene(lambda: _ticket(status=Status.OPEN), {"status": [Status.NEW, Status.OPEN]}),
    "ticket_deleted": _Scene(lambda: _ticket(deleted_at=MOMENT)),
    "user_created": _Scene(_customer),
    "user_deactivated": _Scene(_deactivated, {"is_active": [True, False]}),
    "kb_article_created": _Scene(_article),
    "attachment_added": _Scene(_attachment),
    "attachment_updated": _Scene(_attachment, {"filename": ["image.png", "blank-page.png"]}),
    "attachment_deleted": _Scene(lambda: _attachment(deleted_at=MOMENT)),
}


def _first_rules() -> dict[str, tuple[Row, Rule]]:
    """Each type with the first signal that causes it."""
    found: dict[str, tuple[Row, Rule]] = {}
    for row in catalogue.ROWS:
        for rule in row.rules:
            found.setdefault(rule.type, (row, rule))
    return found


_RULES = _first_rules()
