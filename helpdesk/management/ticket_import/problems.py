from dataclasses import dataclass


class Unreadable(Exception):
    """Nothing can be imported: no such file, no such column, a mapping that makes no sense. Says what to do."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row, and where: the line on which the row begins, and the field of the ticket."""

    line: int
    field: str
    message: str


class RowRefused(Exception):
    """This row cannot become a ticket; the others can."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems
