import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from helpdesk.changes.actor import acting_as
from helpdesk.management.ticket_import.importer import Importer, Outcome, find_person
from helpdesk.management.ticket_import.mapping import ColumnMapping, Settings
from helpdesk.management.ticket_import.problems import Unreadable
from helpdesk.management.ticket_import.report import Report, problem_line
from helpdesk.management.ticket_import.table import Table, open_table

_FIELDS = {
    "source": ("NAME", "the system the tickets come from"),
    "external_id": ("COL", "the ticket's id there; with the source it tells what is here already"),
    "title": ("COL", "or a template such as '{product}: {issue}', here as everywhere a COL is taken"),
    "description": ("COL", "may be empty"),
    "requester_email": ("COL", "new addresses become customers without a password"),
    "requester": ("USER", "one person for all tickets, or for those without an address"),
    "status": ("COL|STATUS", "a column, or one status for all"),
    "priority": ("COL|PRIORITY", "a column, or one priority for all"),
    "tags": ("COL,COL", "columns whose values become tags; a value may hold several, separated by commas"),
    "created_at": ("COL", "ISO 8601; without an offset it is UTC"),
}


class Command(BaseCommand):
    help = (
        "Import tickets from a CSV file with a header. Every row is imported by itself, and only once: after an "
        "interruption, or with a newer version of the file, the same command adds what is missing."
    )
    epilog = "Exit codes: 0 every row is here now, 1 some rows failed, 2 nothing could be read."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(*args, epilog=self.epilog, **options)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument("--map", type=Path, metavar="FILE", help="a TOML or JSON file with the names below")
        for name, (metavar, help_text) in _FIELDS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=help_text)
        parser.add_argument("--no-new-requesters", action="store_true", help="refuse rows whose requester is unknown")
        parser.add_argument("--as", dest="actor", metavar="USER", help="who imports (default: the system)")
        parser.add_argument("--encoding", default="utf-8-sig", help="default: UTF-8")
        parser.add_argument("--delimiter", default=",", help="default: a comma")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, write nothing")
        parser.add_argument("--json", action="store_true", help="the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            settings = Settings.read(options["map"], {name: options[name] for name in _FIELDS})
            actor = find_person(options["actor"]) if options["actor"] else None
            with open_table(options["file"], options["encoding"], options["delimiter"]) as table, acting_as(actor):
                importer = Importer(
                    ColumnMapping(settings, table.columns),
                    dry_run=options["dry_run"],
                    new_requesters=not options["no_new_requesters"],
                )
                report = Report(str(options["file"]), settings.source, options["dry_run"])
                self._import(table, importer, report, options)
        except Unreadable as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) if options["json"] else report.as_table())
        if report.exit_code:
            sys.exit(report.exit_code)

    def _import(self, table: Table, importer: Importer, report: Report, options: dict[str, Any]) -> None:
        size = options["file"].stat().st_size
        # On a terminal only (None), and not beside JSON.
        silent = True if options["json"] else None
        try:
            with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=silent, file=sys.stderr) as bar:
                for row in table:
                    outcome = importer.take(row)
                    report.add(outcome)
                    if not options["json"]:
                        self._say_problems(outcome)
                    bar.update(table.bytes_read - bar.n)
        except KeyboardInterrupt:
            report.stopped_by = "interrupted"
        except DatabaseError as error:
            report.stopped_by = f"the database does not answer ({str(error).strip().splitlines()[0]})"

    def _say_problems(self, outcome: Outcome) -> None:
        for problem in outcome.problems:
            with tqdm.external_write_mode(file=sys.stderr):
                self.stderr.write(problem_line(problem))
