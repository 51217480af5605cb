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
    help = "Check each part of the deployment, and say what to do about what does not work. Exit code 1 if anything."
    requires_system_checks: list[str] = []  # what they find is part of the answer

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        checks = [*deployment.checks(), *health.checks()]
        ok = all(check.ok for check in checks)
        if options["json"]:
            found = {"ok": ok, "checks": [asdict(check) for check in checks]}
            self.stdout.write(json.dumps(found, ensure_ascii=False))
        else:
            width = max(len(check.name) for check in checks)
            for check in checks:
                verdict = self.style.SUCCESS("ok  ") if check.ok else self.style.ERROR("FAIL")
                self.stdout.write(f"{verdict}  {check.name:<{width}}  {check.detail}")
                if check.hint and not check.ok:
                    self.stdout.write(
                        textwrap.fill(check.hint, 100, initial_indent="      → ", subsequent_indent=" " * 8)
                    )
        if not ok:
            sys.exit(1)
