"""A database with endpoints and deliveries that are due, filled as fast as PostgreSQL writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connections, models
from django.utils import timezone

from helpdesk.accounts.models import Role, User
from helpdesk.changes.identifiers import uuid7
from helpdesk.settings import backends
from notifications import payloads
from notifications.models import (
    DeliveryState,
    Event,
    Notification,
    Visibility,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from notifications.numbering import number_events
from notifications.webhooks import signing

HISTORY_ENDPOINTS = 100
# The size of the entity in a webhook's body: a comment of two or three sentences.
TEXT = "The printer on the second floor prints every page twice, and the second one upside down. " * 4


@contextmanager
def on(url: str) -> Iterator[None]:
    """Make the database of this URL the default one of this process."""
    before = connections["default"]
    settings = {**connections.settings["default"], **backends.database(url, pool_size=0)}
    fresh = type(before)(settings, alias="default")
    connections["default"] = fresh
    try:
        yield
    finally:
        fresh.close()
        connections["default"] = before


def people(count: int, role: str = Role.AGENT) -> list[User]:
    """So many people who never sign in."""
    found = [
        User(username=f"person-{uuid7().hex}", email=f"{uuid7().hex}@example.com", role=role, password="!")
        for _ in range(count)
    ]
    return User.objects.bulk_create_without_signals(found, batch_size=2000)


def endpoints(owners: list[User], url: str) -> list[WebhookEndpoint]:
    found = [WebhookEndpoint(owner=owner, url=url, is_primary=True) for owner in owners]
    secret = WebhookEndpoint()
    secret.set_secret(signing.generate_secret())
    for endpoint in found:
        endpoint.encrypted_secret = secret.encrypted_secret
    return WebhookEndpoint.objects.bulk_create(found, batch_size=2000)


def _event() -> Event:
    id_ = uuid7()
    data = payloads.encode({"id": str(id_), "content": TEXT})
    return Event(entity="comment", action="created", entity_id=id_, visibility=Visibility.STAFF, payload_staff=data)


def due(to: list[WebhookEndpoint], count: int) -> None:
    """`count` deliveries that are due, each with an event and a notification of its own, to the endpoints by turns."""
    settle()
    now = timezone.now()
    events = Event.objects.bulk_create([_event() for _ in range(count)], batch_size=2000)
    notifications = Notification.objects.bulk_create(
        [
            Notification(
                event=event,
                recipient_id=to[number % len(to)].owner_id,
                type="comment_on_ticket",
                message="New comment on your ticket 'The printer' by Jane Doe",
                related_type="comment",
                related_id=event.entity_id,
                created_at=now,
            )
            for number, event in enumerate(events)
        ],
        batch_size=2000,
    )
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(endpoint=to[number % len(to)], notification=notification, created_at=now)
            for number, notification in enumerate(notifications)
        ],
        batch_size=2000,
    )


def history(count: int) -> None:
    """`count` deliveries that have arrived, with notification and attempt, one to 100 endpoints after the other."""
    owners = people(HISTORY_ENDPOINTS)
    receivers = endpoints(owners, "http://127.0.0.1:9/")
    due(receivers, HISTORY_ENDPOINTS)
    templates = WebhookDelivery.objects.filter(endpoint__in=receivers)
    moment = timezone.now() - timedelta(days=30)
    templates.update(state=DeliveryState.DELIVERED, attempt_count=1, delivered_at=moment, next_attempt_at=None)
    WebhookAttempt.objects.bulk_create(
        [
            WebhookAttempt(delivery=delivery, number=1, succeeded=True, status_code=200, address="127.0.0.1:9")
            for delivery in templates
        ]
    )
    each = count // HISTORY_ENDPOINTS
    # Ids that fit together: each copy's is made of its row's and the copy's number.
    _multiply(Event, each, "WHERE entity = 'comment'", {"id": _copy("id"), "entity_id": _copy("entity_id")})
    _multiply(
        Notification, each, _where("recipient_id", owners),
        {"id": _copy("id"), "event_id": _copy("event_id"), "related_id": _copy("related_id")},
    )  # fmt: skip
    _multiply(
        WebhookDelivery, each, _where("endpoint_id", receivers),
        {"id": _copy("id"), "notification_id": _copy("notification_id")},
    )  # fmt: skip
    _multiply(WebhookAttempt, each, "", {"id": _copy("id"), "delivery_id": _copy("delivery_id")})
    while number_events(100_000):  # as the publisher would have done long ago
        pass
    settle()


def settle() -> None:
    """As if some quiet minutes had passed: what autovacuum does then is done now, the same for every design."""
    with connections["default"].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _copy(column: str) -> str:
    """An id that is the row's own with the copy's number in it; older than any made today."""
    return f"('00' || lpad(to_hex(n), 6, '0') || substr({column}::text, 10))::uuid"


def _where(column: str, objects: list[Any]) -> str:
    return f"WHERE {column} IN ({', '.join(repr(str(found.pk)) for found in objects)})"


def _multiply(model: type[models.Model], count: int, where: str, changed: dict[str, str]) -> None:
    """Insert `count` copies of each row that `where` finds, with the `changed` columns computed from it and `n`."""
    table = model._meta.db_table
    columns = [field.column for field in model._meta.concrete_fields]
    values = ", ".join(changed.get(column, column) for column in columns)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {values} FROM (SELECT * FROM {table} {where}) AS rows, generate_series(1, %s) AS n",
            [count],
        )
