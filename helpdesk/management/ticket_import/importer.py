"""Writes drafts as tickets, one unit of work each, so that an import can be stopped anywhere and run again."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from helpdesk.accounts.models import User
from helpdesk.changes.unit import unit
from helpdesk.management.ticket_import.drafts import Draft, Drafting
from helpdesk.management.ticket_import.mapping import ColumnMapping
from helpdesk.management.ticket_import.problems import Problem, RowRefused, Unreadable
from helpdesk.management.ticket_import.table import Row
from tickets.models import Ticket


class Result(StrEnum):
    CREATED = "created"
    PRESENT = "present"  # imported before
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one row; in a dry run, what would become of it."""

    line: int
    result: Result
    draft: Draft | None = None
    problems: tuple[Problem, ...] = ()
    new_requester: bool = False


class Importer:
    """Imports the rows of one file. Raises Unreadable when the mapping names a requester who does not exist.

    `dry_run` writes nothing. Without `new_requesters`, a row whose requester nobody knows is refused.
    """

    def __init__(self, mapping: ColumnMapping, *, dry_run: bool = False, new_requesters: bool = True) -> None:
        self._mapping = mapping
        self._drafting = Drafting(mapping)
        self._dry_run = dry_run
        self._new_requesters = new_requesters
        self._named = find_person(mapping.requester) if mapping.requester else None
        self._people: dict[str, User] = {}
        self._lines: dict[str, int] = {}  # by external id: the line that had it first

    def take(self, row: Row | RowRefused) -> Outcome:
        """One row: a ticket, or the reasons why not. Raises nothing but what stops the whole import (DatabaseError)."""
        if isinstance(row, RowRefused):
            return _failed(row)
        try:
            draft = self._drafting.draft(row)
            self._check_seen(draft)
            return self._import(draft)
        except RowRefused as refused:
            return _failed(refused)

    def _check_seen(self, draft: Draft) -> None:
        first = self._lines.setdefault(draft.external_id, draft.line)
        if first != draft.line:
            message = f"“{draft.external_id}” stands on line {first} already; the first one counts."
            raise RowRefused([Problem(draft.line, "external_id", message)])

    def _import(self, draft: Draft) -> Outcome:
        try:
            with unit():
                if self._is_present(draft):
                    return Outcome(draft.line, Result.PRESENT, draft)
                requester, is_new = self._requester(draft)
                if not self._dry_run:
                    if is_new:
                        requester.save()
                    ticket = draft.ticket(self._mapping.source, requester)
                    ticket.save()
                    ticket.set_tags(draft.tags)
        except IntegrityError as error:
            if self._is_present(draft):  # by another import that runs at the same time
                return Outcome(draft.line, Result.PRESENT, draft)
            raise RowRefused([Problem(draft.line, "", f"The database refused it: {error}.")]) from None
        # Known from now on, and not a line earlier: had the unit failed, there would be no such person.
        self._people[draft.requester_email.casefold()] = requester
        return Outcome(draft.line, Result.CREATED, draft, new_requester=is_new)

    def _is_present(self, draft: Draft) -> bool:
        # Deleted tickets count: who deletes an imported ticket does not want it back with the next file.
        return Ticket.objects.filter(source=self._mapping.source, external_id=draft.external_id).exists()

    def _requester(self, draft: Draft) -> tuple[User, bool]:
        """Whose ticket it is, and whether that person is new and not saved yet."""
        email = draft.requester_email
        if not email and self._named:
            return self._named, False
        if known := self._people.get(email.casefold()):
            return known, False
        if known := User.objects.filter(email__iexact=email).first():
            return known, False
        if not self._new_requesters:
            raise RowRefused([Problem(draft.line, "requester_email", f"Nobody has the address {email}.")])
        return _new_customer(email, draft.line), True


def find_person(login: str) -> User:
    """The person with this username or e-mail address. Raises Unreadable."""
    try:
        return User.objects.get_by_natural_key(login)
    except (User.DoesNotExist, User.MultipleObjectsReturned):
        raise Unreadable(f"There is nobody with the username or e-mail address “{login}”.") from None


def _new_customer(email: str, line: int) -> User:
    """A customer without a password: to sign in, somebody has to give them one."""
    user = User(username=email, email=User.objects.normalize_email(email))
    user.set_unusable_password()
    try:
        user.clean_fields()
    except ValidationError as error:
        if set(error.message_dict) != {"username"}:
            raise RowRefused([Problem(line, "requester_email", " ".join(error.messages))]) from None
        # Longer than a username may be, or with characters that only addresses may have.
        user.username = f"customer-{uuid4().hex[:12]}"
    return user


def _failed(refused: RowRefused) -> Outcome:
    return Outcome(refused.problems[0].line, Result.FAILED, problems=tuple(refused.problems))
