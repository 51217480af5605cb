"""What a group message becomes for each person: which event, with which action, in which form. Nothing here waits."""

import json
from typing import Any
from uuid import UUID

from helpdesk.accounts.models import Role
from notifications import sign_outs
from notifications.conversation import MOVED
from notifications.models import Visibility
from notifications.models.event import Scope
from notifications.payloads import encode, notification_head
from notifications.reading import READ
from notifications.sockets.people import Person
from notifications.sockets.rooms import rooms_of
from notifications.sockets.wire import Form

_UPDATE_NAMES = {
    "ticket": "ticket.update",
    "comment": "comment.update",
    "attachment": "attachment.update",
    "user": "user.update",
    "kb_article": "kb.update",
}
_CHANGES = frozenset({"created", "updated", "deleted"})
_RECEIVED = "received"  # a webhook of the internal receiver; the only thing of entity "webhook" that is itself shown
_SHOWN = _CHANGES | {_RECEIVED, READ, MOVED}


class StreamEvent:
    """A published event with what each of its readers gets of it, encoded once per audience and form.

    Made from the message of `notifications.stream.message_of`.
    """

    def __init__(self, message: dict[str, Any], present: tuple[Scope, ...] = ()) -> None:
        """`present`: who may see its subject now, of an event that is told later than it happened."""
        self.position: int = message["position"]
        self.id = UUID(message["event_id"])
        self.entity: str = message["entity"]
        self.action: str = message["action"]
        self.entity_id = UUID(message["entity_id"])
        self.scope = _scope(message["scope"])
        self._previous_scope = _scope(message["previous_scope"])
        self._payloads: tuple[str | None, str | None] = (message["payload_staff"], message["payload_customer"])
        # By recipient. None: too many to be named in the message, to be loaded by `Hub`.
        self.notifications = _by_recipient(message["notifications"])
        self.rooms: tuple[str, ...] = rooms_of(self.entity, message["ticket_id"]) if self.action in _SHOWN else ()
        self._present = present
        # Whose rights are their own; everybody else's are those of their role. As numbers, whose hash costs nothing: it
        # is asked for each connection.
        scopes = (self.scope, self._previous_scope, *present)
        self._named = frozenset(scope.person_id.int for scope in scopes if scope.person_id is not None)
        self._frames: dict[tuple, str] = {}
        self._of_role: dict[tuple[Form, str], str | None] = {}

    @property
    def concerns_sign_in_of(self) -> UUID | None:
        """Whose role, account or sign-in this changes, if anybody's."""
        if self.entity == sign_outs.ENTITY:
            return self.scope.person_id
        return self.entity_id if self.entity == "user" else None

    @property
    def only_reader(self) -> UUID | None:
        """The one person this is for, when it is for one person."""
        return self.scope.person_id if self.scope.visibility == Visibility.PERSON else None

    @property
    def ended_session(self) -> str | None:
        """The fingerprint of the browser session that has ended, where that is what happened."""
        if self.entity != sign_outs.ENTITY:
            return None
        return sign_outs.ended_session(self._payloads[0] or "")

    def concerns(self, person: Person) -> bool:
        """Whether anything of it may be for this person, in whatever room they are."""
        return person.id in (self.notifications or {}) or self.action_for(person) is not None

    def action_for(self, person: Person) -> str | None:
        """What happened from this person's point of view; None when they are not to know.

        Of a subject that is out of their sight by now, only what took it away is told: that it was deleted, too, since
        nothing that happened to its ticket later did.
        """
        action = self._action_then(person)
        if action == "removed" or self._is_in_sight_of(person):
            return action
        return "removed" if action == "deleted" else None

    def _is_in_sight_of(self, person: Person) -> bool:
        return all(scope.admits(person.id, person.role) for scope in self._present)

    def _action_then(self, person: Person) -> str | None:
        sees = self.scope.admits(person.id, person.role)
        if self.action not in ("updated", MOVED):
            return self.action if sees else None
        saw = self._previous_scope.admits(person.id, person.role)
        if sees and saw:
            return "updated" if self.action == "updated" else None
        if sees:
            return "created"
        return "removed" if saw else None

    def update_for(self, person: Person, form: Form) -> str | None:
        """The frame that tells of the change itself, or None for whom it is not for.

        Decided once for each role, and for each of those whom a scope names: `Scope.admits` looks at nothing else.
        """
        if person.id.int in self._named:
            return self._decided(person, form)
        key = (form, person.role)
        try:
            return self._of_role[key]
        except KeyError:
            return self._of_role.setdefault(key, self._decided(person, form))

    def _decided(self, person: Person, form: Form) -> str | None:
        action = self.action_for(person)
        if action is None or not self.rooms:
            return None
        key = (form, action, person.role == Role.CUSTOMER)
        if key not in self._frames:
            self._frames[key] = form(*self._update(action, person))
        return self._frames[key]

    def _update(self, action: str, person: Person) -> tuple[str, dict[str, str]]:
        payload = self._payload_for(person)
        cursor = str(self.position)
        if action == _RECEIVED:
            # Whoever knows the secret may have signed any JSON: it is for their own eyes only, and the cursor is ours.
            received = json.loads(payload)
            fields = received if isinstance(received, dict) else {"data": received}
            return "webhook.received", {**{name: encode(value) for name, value in fields.items()}, "cursor": cursor}
        if action == READ:
            return "notification.read", {
                **{name: encode(it) for name, it in json.loads(payload).items()},
                "cursor": cursor,
            }
        data = encode({"id": str(self.entity_id)}) if action == "removed" else payload
        return _UPDATE_NAMES[self.entity], {"action": encode(action), "data": data, "cursor": cursor}

    def notification_for(self, person: Person, form: Form) -> str | None:
        """The frame of this person's notification, if they have one and may still see what it is about."""
        notification = (self.notifications or {}).get(person.id)
        if notification is None or not self.scope.admits(person.id, person.role) or not self._is_in_sight_of(person):
            return None
        head = notification_head(
            notification["id"],
            notification["type"],
            notification["message"],
            notification["related_id"],
            notification["related_type"],
            notification["created_at"],
        )
        fields = {
            "event": encode("notification.created"),
            "notification": encode(head),
            "data": self._payload_for(person),
            "cursor": str(self.position),
            **{name: encode(value) for name, value in head.items()},
        }
        return form("notification", fields)

    def _payload_for(self, person: Person) -> str:
        staff, customer = self._payloads
        return (customer if person.role == Role.CUSTOMER else staff) or "null"


def _by_recipient(notifications: list[dict[str, str]] | None) -> dict[UUID, dict[str, str]] | None:
    if notifications is None:
        return None
    return {UUID(notification["recipient_id"]): notification for notification in notifications}


def _scope(message: dict[str, str | None]) -> Scope:
    person_id = message["person_id"]
    return Scope(str(message["visibility"]), UUID(person_id) if person_id else None)
