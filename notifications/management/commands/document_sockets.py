from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from notifications.asyncapi import as_yaml, sockets_document
from notifications.typescript import types_document


class Command(BaseCommand):
    help = "Write docs/asyncapi.yaml, and the types of the JavaScript client, from the code of the sockets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--document", type=Path, default=settings.BASE_DIR / "docs" / "asyncapi.yaml")
        parser.add_argument("--types", type=Path, default=settings.BASE_DIR / "clients" / "js" / "src" / "schema.ts")

    def handle(self, *args: Any, document: Path, types: Path, **options: Any) -> None:
        for file, text in ((document, as_yaml(sockets_document())), (types, types_document())):
            try:
                file.write_text(text, encoding="utf-8")
            except OSError as error:
                raise CommandError(f"Cannot write {file}: {error.strerror}.") from None
            self.stdout.write(f"Wrote {file}.")
