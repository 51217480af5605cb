import argparse
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management import CommandError

from notifications.management.arguments import add_secret, checked_secrets, find_endpoint
from notifications.management.base import DeliveriesCommand
from notifications.management.output import printable, write_json
from notifications.webhooks import conformance, endpoints
from notifications.webhooks.destination import DestinationRefused


class Command(DeliveriesCommand):
    help = "Check a receiver: does it take what it must, and refuse what was not signed? Fails where it does not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target", type=_target, metavar="ENDPOINT|URL", help="an endpoint's id, or any URL")
        add_secret(parser)

    def handle(self, *args: Any, target: UUID | str, secrets: list[str] | None, as_json: bool, **options: Any) -> None:
        if isinstance(target, UUID):
            endpoint = find_endpoint(target)
            url, known = endpoint.url, checked_secrets(secrets) or endpoint.secrets()
            own_headers = endpoint.headers()
        else:
            url, known, own_headers = _normalized(target), checked_secrets(secrets), {}
            if not known:
                raise CommandError("A URL needs the secret that its receiver knows: --secret whsec_…")
        if url.startswith("/"):
            raise CommandError("That is the receiver inside this application; it is part of its own tests.")
        checks = conformance.check(url, known, own_headers=own_headers)
        if as_json:
            write_json(self.stdout, [vars(check) for check in checks])
        else:
            self._write(checks)
        failed = sum(not check.passed for check in checks)
        if failed:
            raise CommandError(f"{failed} of {len(checks)} checks failed.")

    def _write(self, checks: list[conformance.Check]) -> None:
        for check in checks:
            mark = self.style.SUCCESS("pass") if check.passed else self.style.ERROR("FAIL")
            self.stdout.write(f"{mark}  {check.question}\n")
            self.stdout.write(f"      {printable(check.answer)}\n")
            if check.advice:
                self.stdout.write(f"      {check.advice}\n")


def _target(text: str) -> UUID | str:
    if "/" in text:
        return text
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither the id of an endpoint nor a URL") from None


def _normalized(url: str) -> str:
    try:
        return endpoints.normalize_url(url)
    except DestinationRefused as refusal:
        raise CommandError(f"{printable(url)}: {refusal.message}.") from None
