import json
import sys
import time
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from notifications.management.arguments import SECRET_VARIABLE, add_secret, checked_secrets, moment
from notifications.management.output import write_fields, write_json
from notifications.webhooks import inspection, signing
from notifications.webhooks.inspection import Finding

MAX_FILE_BYTES = 1_000_000
MAX_SHOWN = 4000  # characters of the signed string


class Command(BaseCommand):
    help = (
        "Check a captured webhook against a secret: shows what is signed, and says what is wrong. Fails unless it fits."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_secret(parser)
        parser.add_argument("--headers", metavar="FILE", help="lines such as `webhook-id: msg_…`, or a JSON object")
        parser.add_argument("--id", help=f"the value of {signing.ID_HEADER}")
        parser.add_argument("--timestamp", help=f"the value of {signing.TIMESTAMP_HEADER}")
        parser.add_argument("--signature", help=f"the value of {signing.SIGNATURE_HEADER}")
        parser.add_argument(
            "--body", required=True, metavar="FILE", help="the body, byte for byte; - for standard input"
        )
        parser.add_argument("--now", type=moment, metavar="ISO", help="check as of this time (default: now)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for machines")

    def handle(
        self,
        *args: Any,
        secrets: list[str] | None,
        headers: str | None,
        body: str,
        now: datetime | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        checked = checked_secrets(secrets)
        if not checked:
            raise CommandError(f"A secret is needed: --secret, or {SECRET_VARIABLE} in the environment.")
        if headers == body == "-":
            raise CommandError("Headers and body cannot both come from standard input.")
        given = read_headers(_read(headers)) if headers else {}
        for name, option in _OPTIONS.items():
            if options[option] is not None:
                given[name] = options[option]
        raw = _read(body)
        finding = inspection.inspect(checked, given, raw, now.timestamp() if now else time.time())
        shown = _shown(given, raw, finding)
        verdict = {"verified": finding.verified, "code": finding.code, "words": finding.words, "hints": finding.hints}
        if as_json:
            write_json(self.stdout, {**shown, **verdict})
        else:
            write_fields(self.stdout, shown)
        if not finding.verified:
            raise CommandError(" ".join([finding.words, *finding.hints]))
        if not as_json:
            self.stdout.write(self.style.SUCCESS(f"\n{finding.words}"))


_OPTIONS = {
    signing.ID_HEADER: "id",
    signing.TIMESTAMP_HEADER: "timestamp",
    signing.SIGNATURE_HEADER: "signature",
}


def read_headers(content: bytes) -> dict[str, str]:
    """Headers by lower-case name, from a JSON object or from lines as on the wire (up to the first empty line)."""
    text = content.decode(errors="replace").strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise CommandError("The headers look like JSON but are not valid.") from None
        return {name.lower(): str(value) for name, value in found.items()}
    head = text.replace("\r\n", "\n").partition("\n\n")[0]
    # A request line or a stray line has no colon after its first word, and is passed over.
    pairs = (line.partition(":") for line in head.splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon and " " not in name.strip()}


def _read(file: str) -> bytes:
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise CommandError(f"Cannot read {file}: {getattr(error, 'strerror', None) or error}.") from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{file} is larger than {MAX_FILE_BYTES:,} bytes: no webhook is.")
    return content


def _shown(given: dict[str, str], body: bytes, finding: Finding) -> dict[str, Any]:
    signed = finding.signed.decode(errors="backslashreplace")
    return {
        "webhook_id": given.get(signing.ID_HEADER),
        "webhook_timestamp": given.get(signing.TIMESTAMP_HEADER),
        "sent_at": inspection.sent_at(given),
        "body_bytes": len(body),
        "signed_string": signed if len(signed) <= MAX_SHOWN else f"{signed[:MAX_SHOWN]}… (cut here)",
        "expected_signature": " ".join(finding.expected),
        "given_signature": given.get(signing.SIGNATURE_HEADER),
    }
