"""What happened to a thing, in plain words, read off the event log."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes.models import EmittingModel
from knowledge.models import Article
from notifications.conversation import MOVED
from notifications.models import Event, Visibility
from tickets.models import Attachment, Ticket

# The latest are shown; the log keeps them for EVENT_RETENTION_DAYS.
MAX_ENTRIES = 100

_MODELS: dict[str, type[EmittingModel]] = {
    "ticket": Ticket,
    "comment": Comment,
    "attachment": Attachment,
    "kb_article": Article,
    "user": User,
}
# Texts whose old and new form would fill the page.
_LONG = {"description", "content", "body"}
_PEOPLE = {"assignee_id", "requester_id"}


@dataclass(frozen=True)
class Entry:
    """One line of a history: at `when`, `who` did `what`."""

    when: datetime
    who: str
    what: str
    is_internal: bool


def of_ticket(ticket: Ticket, user: User) -> list[Entry]:
    """The ticket with its comments and attachments, the latest first. Two queries."""
    # That it took them along to another requester is said once, of the ticket.
    return _entries(Event.objects.visible_to(user).filter(ticket_id=ticket.pk).exclude(action=MOVED))


def of(instance: Model, user: User) -> list[Entry] | None:
    """One object, the latest first; None for a model that the event log knows nothing of."""
    entity = next((entity for entity, model in _MODELS.items() if isinstance(instance, model)), None)
    if entity is None:
        return None
    return _entries(Event.objects.visible_to(user).filter(entity=entity, entity_id=instance.pk))


def _entries(events: QuerySet[Event]) -> list[Entry]:
    found = list(events.filter(entity__in=_MODELS).select_related("actor").order_by("-id")[:MAX_ENTRIES])
    names = _names(found)
    return [
        Entry(
            when=event.occurred_at,
            who=event.actor.display_name if event.actor else "The system",
            what=_what(event, names),
            is_internal=event.entity in ("comment", "attachment") and event.visibility == Visibility.STAFF,
        )
        for event in found
    ]


def _names(events: Iterable[Event]) -> dict[str, str]:
    """The people that changes speak of, by id."""
    ids = {value for event in events for name in _PEOPLE & set(event.changes) for value in event.changes[name] if value}
    return {str(person.pk): person.display_name for person in User.objects.filter(pk__in=map(UUID, ids))} if ids else {}


def _what(event: Event, names: dict[str, str]) -> str:
    subject = _subject(event)
    if event.action in ("updated", MOVED) and event.changes:
        # In the order of the model's fields: PostgreSQL keeps the keys of JSON in an order of its own.
        order = (*_MODELS[event.entity].watched, "tags")
        changed = sorted(
            event.changes.items(), key=lambda change: order.index(change[0]) if change[0] in order else len(order)
        )
        return "; ".join(_change(event.entity, name, old, new, names) for name, (old, new) in changed)
    verb = {
        ("ticket", "created"): "opened",
        ("comment", "created"): "wrote",
        ("attachment", "created"): "attached",
        ("user", "created"): "added",
        ("kb_article", "created"): "wrote",
    }.get((event.entity, event.action), event.action)
    return f"{verb} {subject}"


def _subject(event: Event) -> str:
    match event.entity:
        case "comment":
            return "an internal note" if event.visibility == Visibility.STAFF else "a reply"
        case "attachment":
            return f"the file “{json.loads(event.payload_staff).get('filename', '?')}”"
        case "kb_article":
            return "the article"
        case "user":
            return "this person"
        case _:
            return "the ticket"


def _change(entity: str, name: str, old: Any, new: Any, names: dict[str, str]) -> str:
    match name:
        case "tags":
            return _tags(old, new)
        case "assignee_id":
            if new is None:
                return f"took the ticket from {names.get(old, 'someone')}"
            before = f" (before: {names.get(old, 'someone')})" if old else ""
            return f"assigned the ticket to {names.get(new, 'someone')}{before}"
        case "requester_id":
            return f"changed the requester from {names.get(old, 'someone')} to {names.get(new, 'someone')}"
        case "is_internal":
            return f"made the {entity} {'internal' if new else 'public'}"
        case "is_active":
            return "activated this person" if new else "deactivated this person"
    field: Any = _MODELS[entity]._meta.get_field(name)
    label = field.verbose_name
    if name in _LONG:
        return f"edited the {entity if name == 'content' else label}"
    return f"changed the {label} from {_value(entity, name, old)} to {_value(entity, name, new)}"


def _tags(old: list[str], new: list[str]) -> str:
    added, removed = [tag for tag in new if tag not in old], [tag for tag in old if tag not in new]
    parts = [
        f"{verb} the tag{'' if len(tags) == 1 else 's'} {', '.join(tags)}"
        for verb, tags in (("added", added), ("removed", removed))
        if tags
    ]
    return " and ".join(parts) or "changed the tags"


def _value(entity: str, name: str, value: Any) -> str:
    field: Any = _MODELS[entity]._meta.get_field(name)
    choices = dict(field.flatchoices)
    if value in choices:
        return str(choices[value])
    return f"“{value}”" if value not in (None, "") else "nothing"
