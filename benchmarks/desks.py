"""Two help desks that differ in nothing but their size: 1,000 tickets and 100,000, each in a database of its own.

The newest 1,000 tickets of the large one are, text for text, those of the small one, so that the same page holds the
same amount. Older tickets are older work: solved, closed, their people as busy as people are (few with many tickets,
many with few).
"""

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count

from benchmarks.prose import Prose
from benchmarks.run import Run
from comments.models import Comment
from helpdesk.accounts.models import Role, User
from tickets.models import Attachment, Priority, Status, Ticket, TicketTag
from tickets.numbers import SEQUENCE

SMALL, LARGE = 1_000, 100_000
BATCH = 5_000
NEWEST = datetime(2026, 1, 31, 12, tzinfo=UTC)
BETWEEN_TICKETS = timedelta(minutes=7)
AGENTS = 24
BUSY_SHARE = 0.05
"""The share of tickets that come from one customer, a company: enough to fill a page of their own at either size."""
TAGS = ("billing", "bug", "vip", "hardware", "account", "question", "refund", "sales", "feature", "gdpr")
OPEN_WORK = ((Status.NEW, 18), (Status.OPEN, 30), (Status.PENDING, 20), (Status.ON_HOLD, 7), (Status.SOLVED, 25))
DONE_WORK = ((Status.CLOSED, 88), (Status.SOLVED, 10), (Status.PENDING, 1), (Status.ON_HOLD, 1))
RECENT = 400
"""So many of the newest tickets are open work; what is older is done but for a few that lie about."""
ORDER = " My order is "
ORDER_SHARE, ATTACHMENT_SHARE, NOTE_SHARE = 0.3, 0.2, 0.2
"""Of tickets that name an order, of those with a file, and of agents' comments that are internal."""
PRIORITIES = ((Priority.NORMAL, 65), (Priority.LOW, 18), (Priority.HIGH, 13), (Priority.URGENT, 4))


@dataclass
class Desk:
    size: int
    connection: BaseDatabaseWrapper
    admin: User
    agent: User
    busy_customer: User

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this desk's database the default one."""
        before = connections["default"]
        connections["default"] = self.connection
        try:
            yield
        finally:
            connections["default"] = before

    def ticket(self, age: int) -> Ticket:
        """The ticket before which `age` newer ones came."""
        with self.active():
            return Ticket.objects.get(number=self.size - age)

    @functools.cached_property
    def talked_about(self) -> Ticket:
        """The newest ticket of the busy customer with a conversation of three or more."""
        with self.active():
            counted = Ticket.objects.filter(requester=self.busy_customer).annotate(said=Count("comments"))
            return counted.filter(said__gte=3).order_by("-created_at")[0]

    @functools.cached_property
    def rare_word(self) -> str:
        """A word that only one ticket holds: its order's number."""
        with self.active():
            ticket = Ticket.objects.filter(description__contains=ORDER).order_by("-created_at")[0]
        return ticket.description.partition(ORDER)[2][:8]


@dataclass(frozen=True)
class Desks:
    small: Desk
    large: Desk


@contextlib.contextmanager
def desks(run: Run) -> Iterator[Desks]:
    """Both desks, filled and analysed."""
    with _databases(run) as (small, large):
        yield Desks(_filled(run, small, SMALL), _filled(run, large, LARGE))


@contextlib.contextmanager
def _databases(run: Run) -> Iterator[tuple[BaseDatabaseWrapper, BaseDatabaseWrapper]]:
    """Connections to two migrated, empty databases."""
    with contextlib.ExitStack() as stack:
        if run.postgresql is not None:
            name = stack.enter_context(run.postgresql.database("small"))
            _migrate()
            copy = stack.enter_context(run.postgresql.database("large", template=name))
        else:
            name = str(connection.settings_dict["NAME"])
            _migrate()
            copy = f"{name}.large"
            shutil.copyfile(name, copy)
        large = connections.create_connection("default")
        large.settings_dict = {**large.settings_dict, "NAME": copy}
        stack.callback(large.close)
        stack.callback(connection.close)
        yield connections["default"], large


def _migrate() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    connection.close()  # a database that somebody uses is neither copied nor whole in its file


def _filled(run: Run, database: BaseDatabaseWrapper, size: int) -> Desk:
    began = time.perf_counter()
    desk = Desk(size, database, *(User() for _ in range(3)))
    with desk.active():
        _Filling(desk).fill()
        _settle(database)
    run.say(f"  filled a desk of {size:,} tickets in {time.perf_counter() - began:.0f} s")
    return desk


def _settle(database: BaseDatabaseWrapper) -> None:
    """What the database would have done by itself by the time a table is that large; statistics above all."""
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")
        else:
            cursor.execute("ANALYZE")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Filling:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.prose = Prose()
        self.random = self.prose.random

    def fill(self) -> None:
        self._people()
        for oldest in range(self.desk.size - 1, -1, -BATCH):  # in the order in which it happened
            self._write([self._ticket(age) for age in range(oldest, max(-1, oldest - BATCH), -1)])
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT setval(%s, %s)", [SEQUENCE, self.desk.size])
            else:
                cursor.execute(f"UPDATE {SEQUENCE} SET last = %s", [self.desk.size])

    @staticmethod
    def _write(drawn: list["_Drawn"]) -> None:
        with transaction.atomic():
            Ticket.objects.bulk_create_without_signals([each.ticket for each in drawn])
            TicketTag.objects.bulk_create([tag for each in drawn for tag in each.tags])
            Comment.objects.bulk_create_without_signals([comment for each in drawn for comment in each.comments])
            Attachment.objects.bulk_create_without_signals([file for each in drawn for file in each.attachments])

    def _people(self) -> None:
        def person(username: str, role: Role) -> User:
            return User(
                username=username,
                email=f"{username}@example.com",
                name=username.replace("-", " ").title(),
                role=role,
                is_staff=role != Role.CUSTOMER,
                is_superuser=role == Role.ADMIN,
                password="!",
            )

        self.agents = [person(f"agent-{n:02}", Role.AGENT) for n in range(AGENTS)]
        self.customers = [person(f"customer-{n:05}", Role.CUSTOMER) for n in range(self.desk.size // 10)]
        self.desk.admin = person("admin", Role.ADMIN)
        self.desk.agent, self.desk.busy_customer = self.agents[0], self.customers[0]
        User.objects.bulk_create_without_signals([self.desk.admin, *self.agents, *self.customers], batch_size=BATCH)

    def _ticket(self, age: int) -> "_Drawn":
        draw = self.random
        draw.seed(age)  # the same ticket at either size
        created_at = NEWEST - age * BETWEEN_TICKETS
        status = self._one_of(OPEN_WORK if age < RECENT else DONE_WORK)
        is_busy, rank = draw.random() < BUSY_SHARE, draw.random() ** 2
        # The square makes a tenth of the customers the source of a third of the tickets.
        requester = self.desk.busy_customer if is_busy else self.customers[1 + int((len(self.customers) - 1) * rank)]
        assignee = self.agents[int(AGENTS * draw.random() ** 2)]
        ticket = Ticket(
            number=self.desk.size - age,
            title=self.prose.title(),
            description=self.prose.text() + (f"{ORDER}R{age:07}." if draw.random() < ORDER_SHARE else ""),
            status=status,
            priority=self._one_of(PRIORITIES),
            requester=requester,
            assignee=None if status == Status.NEW else assignee,
            created_at=created_at,
            updated_at=created_at + timedelta(minutes=draw.randint(0, 3 * 24 * 60)),
        )
        names = sorted({TAGS[int(len(TAGS) * draw.random() ** 2)] for _ in range(draw.randint(0, 3))})
        return _Drawn(
            ticket,
            [TicketTag(ticket=ticket, name=name) for name in names],
            [self._comment(ticket, number, requester, assignee) for number in range(int(6 * draw.random() ** 2))],
            [self._attachment(ticket)] if draw.random() < ATTACHMENT_SHARE else [],
        )

    def _comment(self, ticket: Ticket, number: int, requester: User, assignee: User) -> Comment:
        by_agent = number % 2 == 0
        at = ticket.created_at + timedelta(minutes=20 + 90 * number)
        return Comment(
            ticket=ticket,
            author=assignee if by_agent else requester,
            content=self.prose.text(),
            is_internal=by_agent and self.random.random() < NOTE_SHARE,
            created_at=at,
            updated_at=at,
        )

    def _attachment(self, ticket: Ticket) -> Attachment:
        return Attachment(
            ticket=ticket,
            uploaded_by=ticket.requester,
            file="nowhere.png",
            filename="screenshot.png",
            content_type="image/png",
            size=self.random.randint(20_000, 900_000),
            created_at=ticket.created_at,
            updated_at=ticket.created_at,
        )

    def _one_of(self, weighted: tuple[tuple[str, int], ...]) -> str:
        values, weights = zip(*weighted, strict=True)
        return self.random.choices(values, weights)[0]


@dataclass(frozen=True)
class _Drawn:
    """A ticket with what belongs to it, not yet written."""

    ticket: Ticket
    tags: list[TicketTag]
    comments: list[Comment]
    attachments: list[Attachment]
