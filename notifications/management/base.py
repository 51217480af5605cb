from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError


class DeliveriesCommand(BaseCommand):
    """A command about webhook deliveries: `--json`, and a database that does not answer told in one line."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="for machines: JSON instead of a table")

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DatabaseError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise CommandError(
                f"The database does not answer: {reason}. Is DATABASE_URL right, and has `manage.py migrate` been run?"
            ) from None
