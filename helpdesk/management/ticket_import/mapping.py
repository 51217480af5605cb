"""Which columns become which fields of a ticket: from a mapping file, from options, or from both."""

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.db.models import Choices

from helpdesk.management.ticket_import.problems import Unreadable
from tickets.models import Priority, Status, Ticket

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
OTHERWISE = "*"


@dataclass(frozen=True)
class Settings:
    """A mapping as it was written down: the names of columns, templates, fixed values. See `docs/import.md`."""

    source: str = ""
    title: str = ""
    description: str = ""
    requester_email: str = ""
    requester: str = ""
    external_id: str = ""
    status: str = ""
    priority: str = ""
    tags: Sequence[str] = ()
    created_at: str = ""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None, options: Mapping[str, Any]) -> "Settings":
        """A TOML or JSON file, and options that take the place of what it says. Raises Unreadable."""
        found = _read_file(path) if path else {}
        known = {field.name for field in fields(cls)}
        for name, value in found.items():
            if name not in known:
                raise Unreadable(f"The mapping has “{name}”, which means nothing. {_meant(name, known)}")
            _check_type(name, value)
        found.update({name: value for name, value in options.items() if value})
        if isinstance(found.get("tags"), str):
            found["tags"] = [column.strip() for column in found["tags"].split(",")]
        settings = cls(**found)
        settings._check()
        return settings

    def _check(self) -> None:
        needed = {
            "source": "the name of the system the tickets come from; with the id it tells what is here already",
            "title": "a column, or a template such as “{product}: {issue}”",
            "external_id": "the column with the ticket's id at its source, or a template that differs in each row",
        }
        for name, meaning in needed.items():
            if not getattr(self, name):
                raise Unreadable(f"--{name.replace('_', '-')} is missing: {meaning}.")
        if not (self.requester_email or self.requester):
            raise Unreadable(
                "Whose tickets are they? --requester-email names a column, --requester one person for all of them."
            )
        longest = Ticket._meta.get_field("source").max_length or 0
        if len(self.source) > longest:
            raise Unreadable(f"The source's name has {len(self.source)} characters; {longest} are allowed.")
        if unknown := set(self.values) - {"status", "priority"}:
            raise Unreadable(f"[values.{min(unknown)}]: only the values of status and priority can be translated.")


class Template:
    """A column's value, or a text in which `{column}` stands for it."""

    def __init__(self, text: str, name: str, columns: Collection[str]) -> None:
        self._text = text
        self._is_column = text in columns
        if self._is_column:
            return
        used = _PLACEHOLDER.findall(text)
        for column in used or [text]:
            if column not in columns:
                raise Unreadable(f"{name}: there is no column “{column}”. {_meant(column, columns)}")

    def fill(self, values: Mapping[str, str]) -> str:
        if self._is_column:
            return values[self._text]
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self._text)


class ChoiceOf:
    """A status or a priority: one for all rows, or what a column says, translated where the mapping says how."""

    def __init__(
        self, text: str, name: str, choices: type[Choices], values: Mapping[str, str], columns: Collection[str]
    ) -> None:
        self._name = name
        self._known = {_folded(str(word)): choice for choice, label in choices.choices for word in (choice, label)}
        self._fixed = self._known.get(_folded(text)) if text not in columns else None
        self._template = Template(text, name, columns) if text and not self._fixed else None
        self._values = {}
        for theirs, ours in values.items():
            if _folded(ours) not in self._known:
                raise Unreadable(f"[values.{name}]: “{ours}” is not one of {', '.join(choices.values)}.")
            self._values[_folded(theirs)] = self._known[_folded(ours)]
        self._words = ", ".join(choices.values)

    def of(self, values: Mapping[str, str], default: str) -> str:
        """The row's choice; `default` where its column is empty. Raises ValueError for a value nobody translated."""
        if self._template is None:
            return self._fixed or default
        text = self._template.fill(values)
        found = self._values.get(_folded(text))
        if found or not text.strip():
            return found or default
        found = self._values.get(OTHERWISE) or self._known.get(_folded(text))
        if found is None:
            raise ValueError(f"“{text}” is not one of {self._words}; [values.{self._name}] can translate it.")
        return found


class ColumnMapping:
    """The settings, bound to the columns of one file. Raises Unreadable where they do not fit."""

    def __init__(self, settings: Settings, columns: Collection[str]) -> None:
        def template(name: str) -> Template | None:
            text = getattr(settings, name)
            return Template(text, name, columns) if text else None

        self.source = settings.source
        self.requester = settings.requester
        self.title = Template(settings.title, "title", columns)
        self.external_id = Template(settings.external_id, "external_id", columns)
        self.description = template("description")
        self.requester_email = template("requester_email")
        self.created_at = template("created_at")
        self.tags = [Template(text, "tags", columns) for text in settings.tags]
        self.status = ChoiceOf(settings.status, "status", Status, settings.values.get("status", {}), columns)
        self.priority = ChoiceOf(settings.priority, "priority", Priority, settings.values.get("priority", {}), columns)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}.") from None
    except ValueError as error:  # of either parser, or text that is not UTF-8
        raise Unreadable(f"{path} is no {'JSON' if path.suffix == '.json' else 'TOML'}: {error}.") from None
    if not isinstance(found, dict):
        raise Unreadable(f"{path} holds no mapping: names of fields with what they come from.")
    return found


def _check_type(name: str, value: Any) -> None:
    match name, value:
        case "tags", str():
            return
        case "tags", list() if all(isinstance(column, str) for column in value):
            return
        case "values", dict() if all(
            isinstance(table, dict) and all(isinstance(ours, str) for ours in table.values())
            for table in value.values()
        ):
            return
        case _ if name not in ("tags", "values") and isinstance(value, str):
            return
    raise Unreadable(f"The mapping's “{name}” is not what it should be: see docs/import.md.")


def _folded(word: str) -> str:
    return " ".join(word.replace("_", " ").replace("-", " ").split()).casefold()


def _meant(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"Did you mean “{close[0]}”?" if close else f"There are: {', '.join(known)}."
