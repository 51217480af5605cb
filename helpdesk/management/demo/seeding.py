"""Writes the demo data the way people would have: one change after the other, each by whoever made it, in its time."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes.actor import acting_as
from helpdesk.changes.unit import unit
from helpdesk.management.demo.people import PASSWORD, PEOPLE
from helpdesk.management.demo.pictures import png
from knowledge.models import Article, ArticleStatus
from notifications.models import Notification
from tickets.files import sniffed_type
from tickets.models import Attachment, Ticket

SOURCE = "demo"
READ_AFTER = timedelta(hours=3)
UNREAD_FOR = timedelta(days=2)

Change = Callable[[datetime], None]


class NamesTaken(Exception):
    """People who are not from the demo data have the user names or addresses that it needs."""


def has_demo_data() -> bool:
    return Ticket.objects.filter(source=SOURCE).exists()


def seed() -> str:
    """Write all of it or, when anything fails, nothing; a summary for a person to read.

    Raises NamesTaken. Whoever calls this twice gets the same data twice: ask `has_demo_data` first.
    """
    story = _Story(timezone.now())
    with transaction.atomic():
        story.write()
    return (
        f"{len(PEOPLE)} people, {len(story.tickets)} tickets, {story.comments} comments, "
        f"{story.attachments} attachments, {len(story.articles)} articles"
    )


class _Story:
    """Every change of the demo data, put in the order in which it happened."""

    def __init__(self, now: datetime) -> None:
        folder = Path(__file__).parent
        self.tickets = tomllib.loads((folder / "tickets.toml").read_text("utf-8"))["ticket"]
        self.articles = tomllib.loads((folder / "articles.toml").read_text("utf-8"))["article"]
        self.comments = self.attachments = 0
        self._now = now
        self._people: dict[str, User] = {}

    def write(self) -> None:
        self._write_people()
        changes = [*self._article_changes(), *self._ticket_changes()]
        for moment, who, change in sorted(changes, key=lambda change: change[0]):
            with _clock_at(moment), acting_as(self._people[who]), unit():
                change(moment)
        # People have read what is older than that.
        told = Notification.objects.filter(recipient__in=self._people.values())
        told.filter(created_at__lt=self._now - UNREAD_FOR).update(read_at=F("created_at") + READ_AFTER)

    def _write_people(self) -> None:
        names, addresses = [person.username for person in PEOPLE], [person.email for person in PEOPLE]
        taken = User.objects.filter(Q(username__in=names) | Q(email__in=addresses)).values_list("username", flat=True)
        if taken:
            raise NamesTaken(", ".join(taken))
        beginning = self._now - timedelta(days=50)
        with _clock_at(beginning), unit():
            for person in PEOPLE:
                self._people[person.username] = User.objects.create_user(
                    person.username,
                    person.email,
                    PASSWORD,
                    name=person.name,
                    role=person.role,
                    created_at=beginning,
                    updated_at=beginning,
                )

    def _article_changes(self) -> Iterator[tuple[datetime, str, Change]]:
        for told in self.articles:
            article = Article(title=told["title"], body=told["body"].strip(), author=self._people[told["author"]])
            written = self._before(told["ago"])

            def write(moment: datetime, article: Article = article) -> None:
                article.created_at = article.updated_at = moment
                article.save()

            def publish(moment: datetime, article: Article = article) -> None:
                article.status = ArticleStatus.PUBLISHED
                article.save()

            yield written, told["author"], write
            if "published" in told:
                yield written + timedelta(hours=told["published"]), told["author"], publish

    def _ticket_changes(self) -> Iterator[tuple[datetime, str, Change]]:
        for number, told in enumerate(self.tickets, start=1):
            conversation = _Conversation(self, told, number)
            moment = self._before(told["ago"])
            yield moment, told["requester"], conversation.open
            for step in told.get("steps", ()):
                moment += timedelta(hours=step["after"])
                yield moment, step["who"], conversation.change(step)

    def _before(self, hours: float) -> datetime:
        return self._now - timedelta(hours=hours)

    def person(self, username: str) -> User:
        return self._people[username]


class _Conversation:
    """One ticket and what was said and done on it."""

    def __init__(self, story: _Story, told: dict[str, Any], number: int) -> None:
        self._story = story
        self._tags = told.get("tags", ())
        self._comments: list[Comment] = []
        self._ticket = Ticket(
            title=told["title"],
            description=told["description"],
            priority=told.get("priority", "normal"),
            requester=story.person(told["requester"]),
            source=SOURCE,
            external_id=str(number),
        )

    def open(self, moment: datetime) -> None:
        self._ticket.created_at = self._ticket.updated_at = moment
        self._ticket.save()
        self._ticket.set_tags(self._tags)

    def change(self, step: dict[str, Any]) -> Change:
        def make(moment: datetime) -> None:
            who = self._story.person(step["who"])
            match step:
                case {"say": text} | {"note": text}:
                    self._comment(moment, who, text, is_internal="note" in step, answers=step.get("answers", 0))
                case {"set": values}:
                    self._set(**values)
                case {"attach": filename, "content": content}:
                    self._attach(moment, who, filename, content, is_internal=step.get("internal", False))
                case _:
                    raise ValueError(f"Not a step: {step}")

        return make

    def _comment(self, moment: datetime, who: User, text: str, *, is_internal: bool, answers: int) -> None:
        parent = self._comments[-answers] if answers else None
        comment = Comment(ticket=self._ticket, author=who, content=text, is_internal=is_internal, parent=parent)
        comment.created_at = comment.updated_at = moment
        self._comments.append(comment.post())
        self._story.comments += 1

    def _set(self, *, assignee: str = "", tags: list[str] | None = None, **values: str) -> None:
        for name, value in values.items():
            setattr(self._ticket, name, value)
        if assignee:
            self._ticket.assignee = self._story.person(assignee)
        self._ticket.save()
        if tags is not None:
            self._ticket.set_tags(tags)

    def _attach(self, moment: datetime, who: User, filename: str, content: str, *, is_internal: bool) -> None:
        file = ContentFile(png(*content.split()) if filename.endswith(".png") else content.encode(), name=filename)
        Attachment(
            ticket=self._ticket,
            uploaded_by=who,
            file=file,
            filename=filename,
            content_type=sniffed_type(file),
            size=file.size,
            is_internal=is_internal,
            created_at=moment,
            updated_at=moment,
        ).save()
        self._story.attachments += 1


@contextmanager
def _clock_at(moment: datetime) -> Iterator[None]:
    """Everything written inside the block is dated `moment`.

    Models, events and notifications all ask `timezone.now()` and freeze its answer in several places; rewriting each
    of them afterwards would leave the log telling another story than the rows. The command that seeds does nothing
    else meanwhile.
    """
    now = timezone.now
    timezone.now = lambda: moment
    try:
        yield
    finally:
        timezone.now = now
