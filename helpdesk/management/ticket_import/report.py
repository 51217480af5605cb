"""What became of the file, for a person and for a machine."""

from dataclasses import asdict, dataclass, field
from typing import Any

from helpdesk.management.ticket_import.importer import Outcome, Result
from helpdesk.management.ticket_import.problems import Problem

PREVIEWED = 5


@dataclass
class Report:
    file: str
    source: str
    dry_run: bool
    counts: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))
    new_requesters: int = 0
    problems: list[Problem] = field(default_factory=list)
    preview: list[Outcome] = field(default_factory=list)
    stopped_by: str = ""

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.result] += 1
        self.new_requesters += outcome.new_requester
        self.problems += outcome.problems
        if self.dry_run and outcome.result == Result.CREATED and len(self.preview) < PREVIEWED:
            self.preview.append(outcome)

    @property
    def exit_code(self) -> int:
        """0: every row is here now. 1: some are not."""
        return 1 if self.counts[Result.FAILED] or self.stopped_by else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "source": self.source,
            "dry_run": self.dry_run,
            "rows": sum(self.counts.values()),
            **{str(result): count for result, count in self.counts.items()},
            "new_requesters": self.new_requesters,
            "stopped_by": self.stopped_by or None,
            "problems": [asdict(problem) for problem in self.problems],
        }

    def as_table(self) -> str:
        lines = []
        if self.preview:
            lines += ["The first tickets would be:", ""]
            lines += [_described(outcome) for outcome in self.preview]
            lines.append("")
        verb = "to create" if self.dry_run else "created"
        rows = [
            (f"tickets {verb}", self.counts[Result.CREATED]),
            ("here already", self.counts[Result.PRESENT]),
            ("failed", self.counts[Result.FAILED]),
            (f"new requesters {verb}", self.new_requesters),
        ]
        width = max(len(name) for name, _count in rows)
        lines += [f"  {name:<{width}}  {count:>8,}" for name, count in rows]
        if self.dry_run:
            lines += ["", "A dry run: nothing was written."]
        if self.stopped_by:
            lines += ["", f"Stopped: {self.stopped_by}. The same command goes on where this one ended."]
        elif self.counts[Result.FAILED]:
            lines += ["", "Repair the failed rows and run the same command again: the others are not imported twice."]
        return "\n".join(lines)


def problem_line(problem: Problem) -> str:
    return f"line {problem.line}: {problem.field + ': ' if problem.field else ''}{problem.message}"


def _described(outcome: Outcome) -> str:
    draft = outcome.draft
    assert draft is not None
    created = f"{draft.created_at:%Y-%m-%d}" if draft.created_at else "now"
    title = draft.title if len(draft.title) <= 60 else f"{draft.title[:59]}…"
    tags = f"  [{', '.join(draft.tags)}]" if draft.tags else ""
    return f"  line {outcome.line}: {draft.external_id}  {title}  ({draft.status}, {draft.priority}, {created}){tags}"
