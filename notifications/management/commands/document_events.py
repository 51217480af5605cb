from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from notifications.documentation import events_document


class Command(BaseCommand):
    help = "Write docs/events.md from the notification catalogue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=settings.BASE_DIR / "docs" / "events.md")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            file.write_text(events_document(), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {file}: {error.strerror}.") from None
        self.stdout.write(f"Wrote {file}.")
