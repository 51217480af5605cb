"""The catalogue: what each signal means for people. One row per signal, one rule per notification type.

Adding a notification type is adding a rule here. A system check fails when a declared signal has no row;
`docs/events.md` is generated from this table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.functional import Promise
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from comments import signals as comments
from comments.models import Comment
from helpdesk.accounts import signals as accounts
from helpdesk.accounts.models import Role, User
from helpdesk.changes.signals import ModelSignal
from knowledge import signals as knowledge
from knowledge.models import ArticleStatus
from notifications.models import Visibility, WebhookEndpoint
from notifications.models.event import Scope
from tickets import signals as tickets
from tickets.models import Ticket

# Not of a model's signal: what is told of webhook endpoints themselves.
WEBHOOK_TEST = "webhook_test"
TEST_MESSAGE = "Test notification for webhook verification"
WEBHOOK_DISABLED = "webhook_disabled"
WEBHOOK_DISABLED_MESSAGE = _("Your webhook endpoint at %(receiver)s was disabled. %(reason)s")


@dataclass(frozen=True)
class Change:
    """One change of one object, as its signal told it."""

    signal: ModelSignal
    instance: Any
    action: str
    changes: dict[str, list]
    actor: User | None

    def before(self, name: str) -> Any:
        """The field's value before the change."""
        return self.changes[name][0] if name in self.changes else getattr(self.instance, name)

    @property
    def actor_name(self) -> str:
        return self.actor.display_name if self.actor else "the system"


@dataclass(frozen=True)
class Audience:
    """Whom a rule is about: named people, or everyone of some roles. Rights are checked besides."""

    ids: frozenset[UUID] = frozenset()
    roles: frozenset[str] = frozenset()

    @property
    def may_be_large(self) -> bool:
        return Role.CUSTOMER in self.roles

    def q(self) -> Q:
        found = Q(pk__in=self.ids)
        return found | Q(role__in=self.roles) if self.roles else found

    def includes(self, user_id: UUID, role: str) -> bool:
        return user_id in self.ids or role in self.roles


def _people(*ids: UUID | None) -> Audience:
    return Audience(ids=frozenset(id_ for id_ in ids if id_ is not None))


_ADMINS = Audience(roles=frozenset({Role.ADMIN}))
_EVERYONE = Audience(roles=frozenset(Role.values))


@dataclass(frozen=True)
class Rule:
    """A notification type: who gets it, and what it says. The first rule that finds a person is the only one."""

    type: str
    description: str
    recipients: str  # in words, for the documentation
    audience: Callable[[Change], Audience]
    message: Promise
    values: Callable[[Change], dict[str, str]]
    when: Callable[[Change], bool] = lambda change: True

    def message_for(self, change: Change) -> str:
        return Truncator(str(self.message) % self.values(change)).chars(500)


@dataclass(frozen=True)
class Row:
    """What one signal becomes: an event of an entity, who may see it, and the notifications it causes."""

    signal: ModelSignal
    entity: str
    action: str
    serializer: str  # dotted path, imported when first needed
    scope: Callable[[Change], Scope]
    previous_scope: Callable[[Change], Scope]
    ticket_id: Callable[[Any], UUID | None] = lambda instance: None
    rules: tuple[Rule, ...] = field(default=())


# --- who may see what ---------------------------------------------------------------------------------------------
def _ticket_scope(change: Change) -> Scope:
    return Scope(Visibility.REQUESTER, change.instance.requester_id)


def _previous_ticket_scope(change: Change) -> Scope:
    return Scope(Visibility.REQUESTER, change.before("requester_id"))


def _on_ticket(is_internal: bool, requester_id: UUID) -> Scope:
    return Scope(Visibility.STAFF) if is_internal else Scope(Visibility.REQUESTER, requester_id)


def _on_ticket_scope(change: Change) -> Scope:
    return _on_ticket(change.instance.is_internal, change.instance.ticket.requester_id)


def _previous_on_ticket_scope(change: Change) -> Scope:
    # Where it was its ticket that changed hands, `notifications.conversation` says so.
    requester_id, _now = change.changes.get("requester_id") or (change.instance.ticket.requester_id, None)
    return _on_ticket(change.before("is_internal"), requester_id)


def _article(status: str) -> Scope:
    return Scope(Visibility.PUBLIC if status == ArticleStatus.PUBLISHED else Visibility.STAFF)


def _article_scope(change: Change) -> Scope:
    return _article(change.instance.status)


def _previous_article_scope(change: Change) -> Scope:
    return _article(change.before("status"))


def _admins_only(change: Change) -> Scope:
    return Scope(Visibility.ADMINS)


# --- who is told, and what ----------------------------------------------------------------------------------------
def _ticket_people(change: Change) -> Audience:
    """Whose ticket it is. The scope keeps internal things from the requester."""
    ticket: Ticket = change.instance.ticket
    return _people(ticket.requester_id, ticket.assignee_id)


def _assignees(change: Change) -> Audience:
    """The assignee, and whoever was it before the change."""
    return _people(change.instance.assignee_id, change.before("assignee_id"))


def _parent_author(change: Change) -> Audience:
    comment: Comment = change.instance
    return _people(comment.parent.author_id if comment.parent else None)


def _named_ticket(change: Change) -> dict[str, str]:
    instance = change.instance
    ticket = instance if isinstance(instance, Ticket) else instance.ticket
    return {"ticket": ticket.title, "actor": change.actor_name}


_FIELD_NAMES = {"requester_id": "requester", "assignee_id": "assignee"}


def _updated_ticket(change: Change) -> dict[str, str]:
    fields = ", ".join(_FIELD_NAMES.get(name, name) for name in change.changes)
    return {**_named_ticket(change), "fields": fields}


def _named_file(change: Change) -> dict[str, str]:
    return {**_named_ticket(change), "filename": change.instance.filename}


def _named_user(change: Change) -> dict[str, str]:
    return {"name": change.instance.display_name, "actor": change.actor_name}


def _named_article(change: Change) -> dict[str, str]:
    return {"article": change.instance.title, "actor": change.actor_name}


_TICKET_PEOPLE = "requester and assignee of the ticket (of something internal: the assignee only)"

_NEW_REPLY = Rule(
    type="reply_to_comment",
    description="Someone replied to a comment of yours.",
    recipients="the author of the comment replied to (instead of `comment_on_ticket`)",
    audience=_parent_author,
    message=_("%(actor)s replied to your comment on ticket '%(ticket)s'"),
    values=_named_ticket,
)
_NEW_COMMENT = Rule(
    type="comment_on_ticket",
    description="There is a new comment on your ticket.",
    recipients=_TICKET_PEOPLE,
    audience=_ticket_people,
    message=_("New comment on your ticket '%(ticket)s' by %(actor)s"),
    values=_named_ticket,
)
_PUBLISHED_ARTICLE = Rule(
    type="kb_article_created",
    description="A new article can be read in the knowledge base.",
    recipients="everyone who may read it, when it is first published",
    audience=lambda change: _EVERYONE,
    message=_("New knowledge base article '%(article)s' by %(actor)s"),
    values=_named_article,
    when=lambda change: change.instance.status == ArticleStatus.PUBLISHED,
)


def _ticket_row(signal: ModelSignal, action: str, rule: Rule) -> Row:
    return Row(
        signal=signal,
        entity="ticket",
        action=action,
        serializer="tickets.api.serializers.TicketSerializer",
        scope=_ticket_scope,
        previous_scope=_previous_ticket_scope,
        ticket_id=lambda ticket: ticket.pk,
        rules=(rule,),
    )


def _on_ticket_row(signal: ModelSignal, entity: str, action: str, *rules: Rule) -> Row:
    return Row(
        signal=signal,
        entity=entity,
        action=action,
        serializer={
            "comment": "comments.api.serializers.CommentSerializer",
            "attachment": "tickets.api.serializers.AttachmentSerializer",
        }[entity],
        scope=_on_ticket_scope,
        previous_scope=_previous_on_ticket_scope,
        ticket_id=lambda instance: instance.ticket_id,
        rules=rules,
    )


def _article_row(signal: ModelSignal, action: str, *rules: Rule) -> Row:
    return Row(
        signal=signal,
        entity="kb_article",
        action=action,
        serializer="knowledge.api.serializers.ArticleSerializer",
        scope=_article_scope,
        previous_scope=_previous_article_scope,
        rules=rules,
    )


def _user_row(signal: ModelSignal, action: str, *rules: Rule) -> Row:
    return Row(
        signal=signal,
        entity="user",
        action=action,
        serializer="helpdesk.accounts.api.serializers.UserSerializer",
        scope=_admins_only,
        previous_scope=_admins_only,
        rules=rules,
    )


def _ticket_people_rule(type_: str, description: str, message: Promise, values: Callable = _named_ticket) -> Rule:
    return Rule(type_, description, _TICKET_PEOPLE, _ticket_people, message, values)


ROWS: tuple[Row, ...] = (
    _on_ticket_row(comments.comment_created, "comment", "created", _NEW_REPLY, _NEW_COMMENT),
    _on_ticket_row(
        comments.comment_updated,
        "comment",
        "updated",
        _ticket_people_rule(
            "comment_updated",
            "A comment on your ticket was edited.",
            _("Comment on your ticket '%(ticket)s' was edited by %(actor)s"),
        ),
    ),
    _on_ticket_row(
        comments.comment_deleted,
        "comment",
        "deleted",
        _ticket_people_rule(
            "comment_deleted",
            "A comment on your ticket was deleted.",
            _("Comment on your ticket '%(ticket)s' was deleted by %(actor)s"),
        ),
    ),
    _ticket_row(
        tickets.ticket_created,
        "created",
        Rule(
            type="new_ticket",
            description="A new ticket was opened.",
            recipients="administrators",
            audience=lambda change: _ADMINS,
            message=_("New ticket '%(ticket)s' by %(requester)s"),
            values=lambda change: {
                "ticket": change.instance.title,
                "requester": change.instance.requester.display_name,
            },
        ),
    ),
    _ticket_row(
        tickets.ticket_updated,
        "updated",
        Rule(
            type="ticket_updated",
            description="A ticket assigned to you was updated, or was assigned to you or to someone else.",
            recipients="the assignee, and who was the assignee before the change",
            audience=_assignees,
            message=_("Ticket '%(ticket)s' was updated by %(actor)s: %(fields)s"),
            values=_updated_ticket,
        ),
    ),
    _ticket_row(
        tickets.ticket_deleted,
        "deleted",
        Rule(
            type="ticket_deleted",
            description="A ticket assigned to you was deleted.",
            recipients="the assignee",
            audience=_assignees,
            message=_("Ticket '%(ticket)s' was deleted by %(actor)s"),
            values=_named_ticket,
        ),
    ),
    _user_row(
        accounts.user_created,
        "created",
        Rule(
            type="user_created",
            description="A person was added.",
            recipients="administrators",
            audience=lambda change: _ADMINS,
            message=_("New user '%(name)s'"),
            values=_named_user,
        ),
    ),
    _user_row(accounts.user_updated, "updated"),
    _user_row(
        accounts.user_deactivated,
        "updated",
        Rule(
            type="user_deactivated",
            description="A person was deactivated.",
            recipients="administrators",
            audience=lambda change: _ADMINS,
            message=_("User '%(name)s' was deactivated by %(actor)s"),
            values=_named_user,
        ),
    ),
    _article_row(knowledge.article_created, "created", _PUBLISHED_ARTICLE),
    _article_row(knowledge.article_published, "updated", _PUBLISHED_ARTICLE),
    _article_row(knowledge.article_updated, "updated"),
    _article_row(knowledge.article_deleted, "deleted"),
    _on_ticket_row(
        tickets.attachment_added,
        "attachment",
        "created",
        _ticket_people_rule(
            "attachment_added",
            "A file was attached to your ticket.",
            _("New attachment '%(filename)s' on your ticket '%(ticket)s' by %(actor)s"),
            _named_file,
        ),
    ),
    _on_ticket_row(
        tickets.attachment_updated,
        "attachment",
        "updated",
        _ticket_people_rule(
            "attachment_updated",
            "An attachment on your ticket was renamed, or made internal or public.",
            _("Attachment '%(filename)s' on your ticket '%(ticket)s' was updated by %(actor)s"),
            _named_file,
        ),
    ),
    _on_ticket_row(
        tickets.attachment_deleted,
        "attachment",
        "deleted",
        _ticket_people_rule(
            "attachment_deleted",
            "An attachment on your ticket was deleted.",
            _("Attachment '%(filename)s' on your ticket '%(ticket)s' was deleted by %(actor)s"),
            _named_file,
        ),
    ),
)

BY_SIGNAL: dict[ModelSignal, Row] = {row.signal: row for row in ROWS}


def disabled_message(endpoint: WebhookEndpoint) -> str:
    """What its owner reads when an endpoint was disabled."""
    return str(WEBHOOK_DISABLED_MESSAGE) % {"receiver": endpoint.receiver, "reason": endpoint.disabled_reason}


# Every notification type, in the catalogue's order.
TYPES: tuple[str, ...] = (
    *dict.fromkeys(rule.type for row in ROWS for rule in row.rules),
    WEBHOOK_TEST,
    WEBHOOK_DISABLED,
)


@dataclass(frozen=True)
class TypeDescription:
    """A notification type in words, for the documentation and the API."""

    type: str
    related_type: str
    description: str
    recipients: str
    message: str  # with `%(…)s` where something is filled in


def _described() -> dict[str, TypeDescription]:
    found: dict[str, TypeDescription] = {}
    for row in ROWS:
        for rule in row.rules:
            described = TypeDescription(rule.type, row.entity, rule.description, rule.recipients, str(rule.message))
            found.setdefault(rule.type, described)
    found[WEBHOOK_TEST] = TypeDescription(
        WEBHOOK_TEST,
        "webhook",
        "Somebody tried out a webhook endpoint; `data` is the endpoint.",
        "the owner of the endpoint",
        TEST_MESSAGE,
    )
    found[WEBHOOK_DISABLED] = TypeDescription(
        WEBHOOK_DISABLED,
        "webhook",
        "One of your webhook endpoints was disabled: it failed for days, or answered 410. `data` is the endpoint.",
        "the owner of the endpoint (by other endpoints than this one)",
        str(WEBHOOK_DISABLED_MESSAGE),
    )
    return found


DESCRIPTIONS: dict[str, TypeDescription] = _described()
