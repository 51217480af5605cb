import json
import sys
import textwrap
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand

from helpdesk.management.diagnosis import deployment
from notifications import health


class Command(BaseCommand):
    help = (
        "Check each part of the deployment, and say what to do about what does not work: exit code 1 if anything. "
        "A note is worth knowing and no fault."
    )
    requires_system_checks: list[str] = []  # what they find is part of the answer

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        answers = health.database_answers()
        checks = [*deployment.checks(database_answers=answers)]
        checks += health.checks() if answers else health.without_database()
        ok = all(check.ok for check in checks)
        if options["json"]:
            found = {"ok": ok, "checks": [asdict(check) for check in checks]}
            self.stdout.write(json.dumps(found, ensure_ascii=False))
        else:
            width = max(len(check.name) for check in checks)
            for check in checks:
                verdict = self._verdict(check)
                self.stdout.write(f"{verdict}  {check.name:<{width}}  {check.detail}")
                if check.hint:
                    self.stdout.write(
                        textwrap.fill(check.hint, 100, initial_indent="      → ", subsequent_indent=" " * 8)
                    )
        if not ok:
            sys.exit(1)

    def _verdict(self, check: health.Check) -> str:
        if not check.ok:
            return self.style.ERROR("FAIL")
        return self.style.WARNING("note") if check.hint else self.style.SUCCESS("ok  ")
