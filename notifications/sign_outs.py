"""Sign-outs, told to the hubs through the event log, so that what was opened with an ended sign-in ends too.

A hub may be in another process, and a message of the layer may be lost; an event is not, and it keeps its order with
the changes around it. Nobody is told of it: it is in no room, and the feed leaves it out.

| `payload` | what ended |
| --- | --- |
| `{"session": "<fingerprint>"}` | one session of a browser; never its key |
| `{"session": null}` | perhaps everything: a new password, or a sign-out everywhere. Hubs compare each sign-in |
"""

import json
from typing import Any
from uuid import UUID

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.utils.crypto import salted_hmac

from helpdesk.accounts.models import User
from helpdesk.accounts.signals import sign_ins_ended
from helpdesk.changes.identifiers import uuid7
from helpdesk.changes.unit import unit
from notifications import bells
from notifications.models import Event, Visibility
from notifications.payloads import encode

ENTITY = "session"


def fingerprint(session_key: str) -> str:
    """What tells a session from others without giving it away."""
    return salted_hmac("helpdesk.session", session_key, algorithm="sha256").hexdigest()


def ended_session(payload: str) -> str | None:
    """The fingerprint in an event's payload; None where it is not of one session."""
    session: str | None = json.loads(payload)["session"]
    return session


def connect() -> None:
    """Called once, when the apps are ready."""
    user_logged_out.connect(_on_logout, dispatch_uid="notifications.sign_outs.session")
    sign_ins_ended.connect(_on_all_ended, dispatch_uid="notifications.sign_outs.all")


def _on_logout(request: Any, user: User | None, **kwargs: Any) -> None:
    if user is not None and request.session.session_key:
        _record(user.pk, fingerprint(request.session.session_key))


def _on_all_ended(user_id: UUID, **kwargs: Any) -> None:
    _record(user_id, None)


def _record(user_id: UUID, session: str | None) -> None:
    with unit():
        Event.objects.create(
            entity=ENTITY,
            action="ended",
            # Not the person's: the latest event of an entity says who may see it now.
            entity_id=uuid7(),
            actor_id=user_id,
            visibility=Visibility.PERSON,
            person_id=user_id,
            payload_staff=encode({"session": session}),
        )
        transaction.on_commit(bells.ring_publisher, robust=True)
