"""What commands print: a table or a list of fields for people, JSON for machines.

Whatever is shown may come from anyone on the internet, so nothing reaches the terminal that could steer it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import OutputWrapper

from notifications.timestamps import iso


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with what is not printable shown as an escape (`\n`, `\x1b`); with `lines`, line breaks stay."""
    return "".join(
        character
        if character.isprintable() or (lines and character == "\n")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def duration(seconds: float) -> str:
    """A span of time as people say it: `40 seconds`, `6 minutes`, `3 hours`."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"{round(seconds / length)} {unit}s"
    return f"{round(seconds)} second{'' if round(seconds) == 1 else 's'}"


def write_json(stdout: OutputWrapper, value: Any) -> None:
    stdout.write(json.dumps(value, default=_plain, ensure_ascii=False, indent=2) + "\n")


def write_table(stdout: OutputWrapper, columns: Mapping[str, int | None], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under the names of `columns`, each cut to the width given there (None: never cut)."""
    cells = [[_cell(row[name], width) for name, width in columns.items()] for row in rows]
    titles = [_title(name) for name in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for line in [titles, ["-" * width for width in widths], *cells]:
        stdout.write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n")


def write_fields(stdout: OutputWrapper, fields: Mapping[str, Any]) -> None:
    """One field a line, the values below each other."""
    width = max(map(len, fields))
    for name, value in fields.items():
        stdout.write(f"{_title(name).ljust(width)}  {_cell(value, None)}\n")


def _title(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any, width: int | None) -> str:
    if value is None or value == "":
        return "-"
    text = printable(str(_plain(value)))
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return str(value) if isinstance(value, UUID) else value
