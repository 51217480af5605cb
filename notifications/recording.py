"""Turns changes into rows: events, notifications and deliveries, in the transaction of the change.

Everything that happens in one unit of work is collected and written at its end with four statements (recipients with
their endpoints, events, notifications, deliveries), however much happened; with five where an audience is large, since
then recipients are asked for a second time, and two more for each ticket that takes along what hangs on it. After the
commit only bells are rung: whatever they fail to wake up sweeps by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import FilteredRelation, Q
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.changes.actor import acts_by_token, current_actor
from helpdesk.changes.signals import ModelSignal
from helpdesk.changes.trace import current_trace
from helpdesk.changes.unit import before_commit, unit
from notifications import bells, catalogue, conversation, payloads
from notifications.catalogue import Audience, Change, Row, Rule
from notifications.examples import Example, payload_of_disabled
from notifications.models import (
    DeliveryState,
    EndpointState,
    Event,
    Notification,
    Priority,
    Visibility,
    WebhookDelivery,
    WebhookEndpoint,
)

# Visibilities under which a customer may be among the readers.
_CUSTOMERS_SEE = {Visibility.REQUESTER, Visibility.PUBLIC, Visibility.PERSON}


@dataclass(frozen=True)
class EndpointChoice:
    """What the recorder needs to know of an endpoint."""

    id: UUID
    types: list[str]
    state: str

    def wants(self, type_: str) -> bool:
        return not self.types or type_ in self.types


@dataclass(frozen=True)
class Recipient:
    id: UUID
    role: str
    endpoints: tuple[EndpointChoice, ...]


def find_recipients(condition: Q, limit: int | None = None) -> list[Recipient]:
    """The active people of `condition` with their endpoints, by id, in one query (at most `limit` rows)."""
    rows = (
        User.objects.active()
        .filter(condition)
        .annotate(endpoint=FilteredRelation("webhook_endpoints", condition=Q(webhook_endpoints__deleted_at=None)))
        .order_by("pk")
        .values_list("pk", "role", "endpoint__id", "endpoint__types", "endpoint__state")
    )
    found: dict[UUID, tuple[str, list[EndpointChoice]]] = {}
    for user_id, role, endpoint_id, types, state in rows[:limit] if limit else rows:
        endpoints = found.setdefault(user_id, (role, []))[1]
        if endpoint_id is not None:
            endpoints.append(EndpointChoice(endpoint_id, types, state))
    return [Recipient(user_id, role, tuple(endpoints)) for user_id, (role, endpoints) in found.items()]


class Outbox:
    """Rows to be written together."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notifications: list[Notification] = []
        self.deliveries: list[WebhookDelivery] = []

    def notify(
        self,
        event: Event,
        recipient: Recipient,
        type_: str,
        message: str,
        *,
        related_type: str,
        related_id: UUID,
        created_at: Any,
        priority: Priority = Priority.NEWS,
    ) -> None:
        """A notification, and a delivery for each of the recipient's endpoints that wants its type."""
        notification = Notification(
            event=event,
            recipient_id=recipient.id,
            type=type_,
            message=message,
            related_type=related_type,
            related_id=related_id,
            created_at=created_at,
        )
        self.notifications.append(notification)
        for endpoint in recipient.endpoints:
            if endpoint.wants(type_):
                held = endpoint.state != EndpointState.ACTIVE
                self.deliveries.append(
                    WebhookDelivery(
                        endpoint_id=endpoint.id,
                        notification=notification,
                        ticket_id=event.ticket_id,
                        priority=priority,
                        created_at=created_at,
                        next_attempt_at=None if held else created_at,
                        state=DeliveryState.HELD if held else DeliveryState.PENDING,
                        state_reason=f"The endpoint is {endpoint.state}." if held else "",
                    )
                )

    def write(self) -> None:
        Event.objects.bulk_create(self.events)
        Notification.objects.bulk_create(self.notifications, batch_size=1000)
        WebhookDelivery.objects.bulk_create(self.deliveries, batch_size=1000)
        if self.events:
            transaction.on_commit(bells.ring_publisher, robust=True)
        if any(delivery.next_attempt_at for delivery in self.deliveries):
            transaction.on_commit(bells.ring_deliveries, robust=True)
        if any(event.expansion_pending for event in self.events):
            transaction.on_commit(bells.ring_expansion, robust=True)


@dataclass
class _Told:
    """A change with its row of the catalogue and the rules that apply to it."""

    change: Change
    row: Row
    rules: list[tuple[Rule, Audience]]


class Recorder:
    """Collects the changes of one unit; called at its end."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def add(self, change: Change) -> None:
        """Changes of the same object that follow each other in one unit are told as one."""
        for index, earlier in enumerate(self.changes):
            if earlier.instance is change.instance:
                merged = _merged(earlier, change)
                if merged is not None:
                    self.changes[index] = merged
                    return
        self.changes.append(change)

    def __call__(self) -> None:
        told = []
        by_themselves = {change.instance.pk for change in self.changes if change.action != "updated"}
        for change in self.changes:
            row = catalogue.BY_SIGNAL[change.signal]
            rules = [(rule, rule.audience(change)) for rule in row.rules if rule.when(change)]
            told.append(_Told(change, row, rules))
            told += [_Told(other, row, []) for other, row in conversation.following(change, by_themselves)]
        small, large = self._recipients(told)
        outbox, now = Outbox(), timezone.now()
        for item in told:
            event = _event_of(item.change, item.row, now)
            outbox.events.append(event)
            scope, actor_id = event.scope, event.actor_id
            reached: set[UUID] = set()
            for rule, audience in item.rules:
                message = rule.message_for(item.change)
                if large and audience.may_be_large:
                    event.expansion_pending = True
                    event.announcement = {"type": rule.type, "message": message}
                    continue
                for recipient in small:
                    if (
                        recipient.id not in reached
                        and recipient.id != actor_id
                        and audience.includes(recipient.id, recipient.role)
                        and scope.admits(recipient.id, recipient.role)
                    ):
                        reached.add(recipient.id)
                        outbox.notify(
                            event,
                            recipient,
                            rule.type,
                            message,
                            related_type=event.entity,
                            related_id=event.entity_id,
                            created_at=now,
                        )
        outbox.write()

    @staticmethod
    def _recipients(told: list[_Told]) -> tuple[list[Recipient], bool]:
        """Everyone some rule is about, and whether the large audiences are left to the worker."""
        audiences = [audience for item in told for _rule, audience in item.rules]
        condition = _any_of(audiences)
        if condition is None:
            return [], False
        if not any(audience.may_be_large for audience in audiences):
            return find_recipients(condition), False
        limit = settings.AUDIENCE_IN_TRANSACTION
        recipients = find_recipients(condition, limit + 1)
        if sum(max(1, len(recipient.endpoints)) for recipient in recipients) <= limit:
            return recipients, False
        condition = _any_of(audience for audience in audiences if not audience.may_be_large)
        return (find_recipients(condition) if condition is not None else []), True


def _any_of(audiences: Iterable[Audience]) -> Q | None:
    """One condition for all of them; None when nobody is meant."""
    ids: frozenset[UUID] = frozenset()
    roles: frozenset[str] = frozenset()
    for audience in audiences:
        ids, roles = ids | audience.ids, roles | audience.roles
    return Audience(ids, roles).q() if ids or roles else None


def _merged(earlier: Change, later: Change) -> Change | None:
    """Two changes of one object in one unit as one, or None where both must be told."""
    if earlier.action == "created" and later.action == "updated":
        return Change(earlier.signal, later.instance, "created", {}, earlier.actor)
    if earlier.action == later.action == "updated":
        changes = dict(earlier.changes)
        for name, (old, new) in later.changes.items():
            changes[name] = [changes[name][0] if name in changes else old, new]
        # The more particular of two signals wins: "deactivated" or "published" over a plain "updated".
        signal = earlier.signal if catalogue.BY_SIGNAL[earlier.signal].rules else later.signal
        return Change(signal, later.instance, "updated", changes, later.actor)
    return None


def _event_of(change: Change, row: Row, now: Any) -> Event:
    instance = change.instance
    scope, previous = row.scope(change), row.previous_scope(change)
    moved = previous != scope
    return Event(
        occurred_at=now,
        entity=row.entity,
        action=row.action,
        entity_id=instance.pk,
        ticket_id=row.ticket_id(instance),
        actor=change.actor,
        by_token=acts_by_token(),
        trace=list(current_trace()) or None,
        changes={name: [_plain(old), _plain(new)] for name, (old, new) in change.changes.items()},
        visibility=scope.visibility,
        person_id=scope.person_id,
        previous_visibility=previous.visibility if moved else "",
        previous_person_id=previous.person_id if moved else None,
        payload_staff=payloads.entity_payload(row.serializer, instance, payloads.STAFF, row.action),
        payload_customer=(
            payloads.entity_payload(row.serializer, instance, payloads.CUSTOMER, row.action)
            if scope.visibility in _CUSTOMERS_SEE
            else None
        ),
    )


def _plain(value: Any) -> Any:
    """A field's value as JSON keeps it. Long texts are cut: the history shows that they changed, not all of them."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str) and len(value) > 500:
        return value[:499] + "…"
    return value


def _on_signal(
    signal: ModelSignal, instance: Any, action: str, changes: dict[str, list], actor: Any, **kwargs: Any
) -> None:
    recorder = before_commit(Recorder(), key="notifications.recording")
    recorder.add(Change(signal, instance, action, changes, actor))


def connect() -> None:
    """Listen to every signal of the catalogue. Called once, when the apps are ready."""
    for row in catalogue.ROWS:
        row.signal.connect(_on_signal, dispatch_uid=f"notifications.recording.{row.signal.name}", weak=False)


def record_test(endpoint: WebhookEndpoint, example: Example, lease: UUID, until: Any) -> None:
    """A real notification and delivery for one endpoint that say what `example` says.

    The event is the endpoint's own and its owner's alone: what an example speaks of does not exist. The delivery is
    born leased, so that it is sent by whoever asked and not by a worker that happens to be quicker.
    """
    with unit():
        now = timezone.now()
        event = Event(
            occurred_at=now,
            entity="webhook",
            action="test",
            entity_id=endpoint.pk,
            actor=current_actor(),
            visibility=Visibility.PERSON,
            person_id=endpoint.owner_id,
            payload_staff=example.payload_staff,
            payload_customer=example.payload_customer,
        )
        outbox = Outbox()
        outbox.events.append(event)
        outbox.notify(
            event,
            Recipient(endpoint.owner_id, endpoint.owner.role, (EndpointChoice(endpoint.pk, [], EndpointState.ACTIVE),)),
            example.type,
            example.message,
            related_type=example.related_type,
            related_id=example.related_id,
            created_at=now,
        )
        for delivery in outbox.deliveries:
            delivery.state, delivery.next_attempt_at = DeliveryState.SENDING, None
            delivery.lease_token, delivery.lease_until = lease, until
        outbox.write()


def record_webhook_disabled(endpoint: WebhookEndpoint) -> None:
    """Tell an endpoint's owner that it gets nothing any more, and why.

    It is a notification like any other, for their list, their sockets and their other endpoints; never for this one.
    """
    now = timezone.now()
    payload = payload_of_disabled(endpoint)
    event = Event(
        occurred_at=now,
        entity="webhook",
        action="disabled",
        entity_id=endpoint.pk,
        visibility=Visibility.PERSON,
        person_id=endpoint.owner_id,
        payload_staff=payload,
        payload_customer=payload,
    )
    outbox = Outbox()
    outbox.events.append(event)
    for owner in find_recipients(Q(pk=endpoint.owner_id)):
        others = tuple(choice for choice in owner.endpoints if choice.id != endpoint.pk)
        outbox.notify(
            event,
            Recipient(owner.id, owner.role, others),
            catalogue.WEBHOOK_DISABLED,
            catalogue.disabled_message(endpoint),
            related_type="webhook",
            related_id=endpoint.pk,
            created_at=now,
        )
    outbox.write()
