"""From a row of the file to a ticket that could be saved."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.management.ticket_import.mapping import ColumnMapping
from helpdesk.management.ticket_import.problems import Problem, RowRefused
from helpdesk.management.ticket_import.table import Row
from tickets.models import Priority, Status, Ticket, TicketTag

T = TypeVar("T")
# A date before this is a slip of the pen: no help desk has been open that long.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Draft:
    """A ticket as its row describes it, all of it valid; only its requester is still to be found."""

    line: int
    external_id: str
    title: str
    description: str
    status: str
    priority: str
    tags: list[str]
    created_at: datetime | None  # None: the moment of the import
    requester_email: str  # empty: the one named requester

    def ticket(self, source: str, requester: User) -> Ticket:
        created = {"created_at": self.created_at} if self.created_at else {}
        return Ticket(
            source=source,
            external_id=self.external_id,
            title=self.title,
            description=self.description,
            status=self.status,
            priority=self.priority,
            requester=requester,
            **created,
        )


class Drafting:
    """Makes drafts of rows; raises RowRefused with everything that is wrong with one."""

    def __init__(self, mapping: ColumnMapping) -> None:
        self._mapping = mapping

    def draft(self, row: Row) -> Draft:
        mapping, values, problems = self._mapping, row.values, _Problems(row.line)
        draft = Draft(
            line=row.line,
            external_id=mapping.external_id.fill(values).strip(),
            title=_one_line(mapping.title.fill(values)),
            description=_line_breaks(mapping.description.fill(values)) if mapping.description else "",
            status=problems.unless("status", lambda: mapping.status.of(values, Status.NEW), str(Status.NEW)),
            priority=problems.unless(
                "priority", lambda: mapping.priority.of(values, Priority.NORMAL), str(Priority.NORMAL)
            ),
            tags=problems.unless("tags", lambda: self._tags(row), []),
            created_at=problems.unless("created_at", lambda: self._created_at(row), None),
            requester_email=problems.unless("requester_email", lambda: self._requester_email(row), ""),
        )
        if not draft.external_id:
            problems.add("external_id", "It is empty; without it a second import could not know this ticket again.")
        self._validate(draft, problems)
        if problems.found:
            raise RowRefused(problems.found)
        return draft

    def _validate(self, draft: Draft, problems: "_Problems") -> None:
        """By the model's own rules."""
        try:
            draft.ticket(self._mapping.source, User()).clean_fields(exclude={"requester", "assignee"})
        except ValidationError as error:
            for name, messages in error.message_dict.items():
                problems.add(name, " ".join(messages))

    def _tags(self, row: Row) -> list[str]:
        cells = [template.fill(row.values) for template in self._mapping.tags]
        return TicketTag.normalized(tag for cell in cells for tag in cell.split(",") if tag.strip())

    def _created_at(self, row: Row) -> datetime | None:
        text = self._mapping.created_at.fill(row.values).strip() if self._mapping.created_at else ""
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"“{text}” is no ISO 8601 date or time, such as 2025-11-17T12:00:00Z.") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        if not EARLIEST <= moment <= timezone.now():
            raise ValueError(f"“{text}” is not between {EARLIEST:%Y} and now.")
        return moment

    def _requester_email(self, row: Row) -> str:
        email = self._mapping.requester_email.fill(row.values).strip() if self._mapping.requester_email else ""
        if email:
            try:
                validate_email(email)
            except ValidationError:
                raise ValueError(f"“{email}” is no e-mail address.") from None
        elif not self._mapping.requester:
            raise ValueError("It is empty; --requester can name who gets the tickets without an address.")
        return email


class _Problems:
    """Collects what is wrong with one row."""

    def __init__(self, line: int) -> None:
        self._line = line
        self.found: list[Problem] = []

    def add(self, field: str, message: str) -> None:
        self.found.append(Problem(self._line, field, message))

    def unless(self, field: str, read: Callable[[], T], otherwise: T) -> T:
        """What `read` gives, or `otherwise` where it raises, which is noted."""
        try:
            return read()
        except ValidationError as error:
            self.add(field, " ".join(error.messages))
        except ValueError as error:
            self.add(field, str(error))
        return otherwise


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _line_breaks(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
