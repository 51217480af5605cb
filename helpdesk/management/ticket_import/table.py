"""A CSV file, read row by row however large it is."""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from helpdesk.management.ticket_import.problems import Problem, RowRefused, Unreadable

# Characters of one value. Far more than a description may have: a longer one is mostly a quote that is never closed,
# and the reader must not collect the rest of the file as its text.
MAX_VALUE = 1_000_000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Row:
    """The values of one row by their column, and the line on which it begins."""

    line: int
    values: dict[str, str]


class Table:
    """The rows of an open file. Made by `open_table`."""

    def __init__(self, file: BufferedReader, encoding: str, delimiter: str) -> None:
        self._file = file
        self._encoding = encoding
        # What cannot be decoded is kept as lone surrogates, so that one bad byte spoils one row and not the file.
        text = TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
        csv.field_size_limit(MAX_VALUE)
        self._reader = csv.reader(text, delimiter=delimiter, strict=True)
        self.columns = self._read_columns()

    @property
    def bytes_read(self) -> int:
        return self._file.tell()

    def __iter__(self) -> Iterator[Row | RowRefused]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield RowRefused([Problem(line, "", _in_plain_words(error))])
                continue
            if cells:  # an empty line is no row
                yield self._row(line, cells)

    def _row(self, line: int, cells: list[str]) -> Row | RowRefused:
        if len(cells) != len(self.columns):
            message = f"The row has {len(cells)} values, the header has {len(self.columns)} columns."
            return RowRefused([Problem(line, "", message)])
        problems = [
            Problem(line, "", f"Column “{column}” is not {self._encoding} text (--encoding names another encoding).")
            for column, cell in zip(self.columns, cells, strict=True)
            if _has_undecoded(cell)
        ]
        return RowRefused(problems) if problems else Row(line, dict(zip(self.columns, cells, strict=True)))

    def _read_columns(self) -> list[str]:
        try:
            columns = [column.strip() for column in next(self._reader)]
        except StopIteration:
            raise Unreadable("The file is empty.") from None
        except csv.Error as error:
            raise Unreadable(f"The header cannot be read. {_in_plain_words(error)}") from None
        if any(_has_undecoded(column) for column in columns):
            raise Unreadable(f"The header is not {self._encoding} text. --encoding names another encoding.")
        twice = [column for column, count in Counter(columns).items() if count > 1]
        if twice:
            raise Unreadable(f"The header has the column “{twice[0]}” more than once.")
        return columns


@contextmanager
def open_table(path: Path, encoding: str = "utf-8-sig", delimiter: str = ",") -> Iterator[Table]:
    """Open a file and read its header. Raises Unreadable."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise Unreadable(f"There is no encoding “{encoding}”. Common ones: utf-8, utf-16, cp1252, latin-1.") from None
    if len(delimiter) != 1:
        raise Unreadable("The delimiter is one character.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}.") from None
    with file:
        if file.peek(2)[:2] in _UTF16 and not encoding.lower().startswith(("utf-16", "utf16")):
            raise Unreadable("The file is UTF-16 text: --encoding utf-16.")
        try:
            yield Table(file, encoding, delimiter)
        except UnicodeError as error:  # an encoding in which single bytes cannot be passed over
            raise Unreadable(f"The file is not {encoding} text: {error}.") from None


def _has_undecoded(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _in_plain_words(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "A quoted value that begins in this row is never closed, so everything after it belongs to it."
    if "field larger than" in text:
        return f"A value is longer than {MAX_VALUE:,} characters. Is a quote not closed?"
    if "expected after" in text:
        return "A closing quote is followed by more text. Quotes inside of a value must be doubled."
    return f"The row is no CSV: {text}."
