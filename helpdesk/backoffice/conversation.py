"""The conversation of a ticket as staff see it: replies, internal notes and files in the order they came."""

from dataclasses import dataclass

from django.db.models import QuerySet

from comments.models import Comment
from helpdesk.accounts.models import User
from tickets.models import Attachment, Ticket

# The latest are shown; the lists of comments and attachments have them all.
MAX_ITEMS = 200


@dataclass(frozen=True)
class Item:
    """A comment or an attachment, with who wrote or uploaded it."""

    kind: str  # "comment" or "attachment"; with the id it makes the anchor that notifications link to
    subject: Comment | Attachment
    person: User | None
    by_requester: bool

    @property
    def anchor(self) -> str:
        return f"{self.kind}-{self.subject.pk}"


@dataclass(frozen=True)
class Conversation:
    items: list[Item]
    more: bool
    """Whether there is something older that is not shown."""


def of(ticket: Ticket, user: User) -> Conversation:
    """The latest MAX_ITEMS comments and attachments that `user` may see, oldest first. Two queries."""
    comments = Comment.objects.visible_to(user).filter(ticket=ticket).select_related("author", "parent__author")
    attachments = Attachment.objects.visible_to(user).filter(ticket=ticket).select_related("uploaded_by")
    items = [
        *(_item("comment", comment, comment.author, ticket) for comment in _latest(comments)),
        *(_item("attachment", attachment, attachment.uploaded_by, ticket) for attachment in _latest(attachments)),
    ]
    items.sort(key=lambda item: (item.subject.created_at, item.subject.pk))
    return Conversation(items[-MAX_ITEMS:], more=len(items) > MAX_ITEMS)


def _latest(queryset: QuerySet) -> QuerySet:
    return queryset.order_by("-created_at", "-id")[: MAX_ITEMS + 1]


def _item(kind: str, subject: Comment | Attachment, person: User | None, ticket: Ticket) -> Item:
    return Item(kind, subject, person, by_requester=person is not None and person.pk == ticket.requester_id)
