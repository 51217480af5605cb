from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from notifications import retention
from notifications.management.base import DeliveriesCommand
from notifications.management.output import write_json

_SETTINGS = ("WEBHOOK_RETENTION_DAYS", "EVENT_RETENTION_DAYS", "DELETED_RETENTION_DAYS")


class Command(DeliveriesCommand):
    help = (
        "Remove for good what is past its retention, in batches. The worker does it every hour; it can be stopped "
        "and run again at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="say how much, and remove nothing")

    def handle(self, *args: Any, dry_run: bool, as_json: bool, **options: Any) -> None:
        counts = retention.planned() if dry_run else retention.prune()
        if as_json:
            write_json(self.stdout, {"dry_run": dry_run, "removed": counts})
            return
        found = [f"{count} {name}" for name, count in counts.items() if count]
        verb = "would be removed" if dry_run else "removed"
        self.stdout.write(f"{', '.join(found)} {verb}." if found else "Nothing is past its retention.")
        for name in _SETTINGS:
            days = getattr(settings, name)
            self.stdout.write(f"{name}={days}" + ("" if days else " (for ever)"))
