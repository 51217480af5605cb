import argparse
import json
import math
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from notifications.management.arguments import SECRET_VARIABLE, add_secret, checked_secrets
from notifications.management.output import printable
from notifications.timestamps import iso
from notifications.webhooks import misbehaviour
from notifications.webhooks.listener import Behaviour, Listener, Received, honestly


class Command(BaseCommand):
    help = "Receive webhooks, check their signatures and print them, until Ctrl-C. Can misbehave on purpose."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=_port, default=8090, help="0 for any free one (default: %(default)s)")
        add_secret(parser)
        wrong = parser.add_argument_group(
            "misbehaving on purpose",
            "How the sender explains each is in the delivery's attempts, and on docs/webhooks.md.",
        )
        instead = wrong.add_mutually_exclusive_group()
        instead.add_argument(
            "--status",
            type=_status,
            help="answer this, whatever comes (default: 200, or 401 where the signature is wrong)",
        )
        instead.add_argument("--redirect", metavar="URL", help="send the sender to another URL (302)")
        instead.add_argument("--reset", action="store_true", help="cut the connection instead of answering")
        instead.add_argument("--garbage", action="store_true", help="answer what is not HTTP")
        wrong.add_argument("--retry-after", type=_whole_seconds, metavar="SECONDS", help="with --status: ask for time")
        wrong.add_argument("--delay", type=_seconds, metavar="SECONDS", default=0.0, help="answer this late")
        wrong.add_argument(
            "--drip", type=_seconds, metavar="SECONDS", help="answer byte by byte, with this between two"
        )
        wrong.add_argument("--fail-first", type=_times, metavar="N", help="only the first N times that a message comes")
        parser.add_argument("--full", action="store_true", help="print headers and body too")
        parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a line")

    def handle(
        self,
        *args: Any,
        host: str,
        port: int,
        secrets: list[str] | None,
        **options: Any,
    ) -> None:
        self.full, self.as_json = options["full"], options["as_json"]
        try:
            listener = Listener(
                host,
                port,
                secrets=checked_secrets(secrets),
                behave=_behaviour(options),
                report=self._report,
                note=self._note,
            )
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CommandError(f"Cannot listen on {host}, port {port}: {reason}.") from None
        try:
            self._introduce(listener)
            listener.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            listener.close()
        self._sum_up(listener)

    def _introduce(self, listener: Listener) -> None:
        if self.as_json:
            self._line({"listening": listener.url})
            return
        self._say(f"Listening on {listener.url}")
        self._say("")
        self._say("Make it somebody's webhook URL with their access token:")
        self._say(f"  curl -X PUT {settings.PUBLIC_URL}/api/users/me/webhook -H 'Authorization: Bearer '$TOKEN \\")
        self._say(f"    -H 'Content-Type: application/json' -d '{{\"webhook_url\": \"{listener.url}\"}}'")
        if not listener.secrets:
            self._say(
                f"Signatures are not checked. The answer holds the secret: give it as --secret or {SECRET_VARIABLE}."
            )
        self._say("Ctrl-C stops.")
        self._say("")

    def _report(self, received: Received) -> None:
        if self.as_json:
            self._line(_as_json(received, self.full))
            return
        notification = received.notification
        verdict = {
            True: self.style.SUCCESS("verified"),
            False: self.style.ERROR(f"NOT VERIFIED: {printable(received.problem)}"),
            None: self.style.WARNING("not checked"),
        }[received.verified]
        head = (f"{received.at:%H:%M:%S}", received.message_id or "no webhook-id", f"attempt {received.attempt or '?'}")
        self._say("  ".join([*map(printable, head), verdict]))
        self._say(f"          {_text(notification, 'type')}: {_text(notification, 'message')}")
        if received.times > 1:
            self._say(f"          seen before, this is number {received.times}: answer it, but do the work only once")
        if self.full:
            lines = [f"POST {received.path}", *(f"{name}: {value}" for name, value in received.headers.items()), ""]
            for line in lines:
                self._say(printable(line))
            self._say(printable(received.body.decode(errors="backslashreplace"), lines=True))
            self._say("")

    def _note(self, line: str) -> None:
        if self.as_json:
            self._line({"note": line})
        else:
            self._say(self.style.WARNING(printable(line)))

    def _sum_up(self, listener: Listener) -> None:
        tally = listener.tally
        counts = {"received": tally.received, "not_verified": tally.refused, "seen_before": tally.repeated}
        if self.as_json:
            self._line({"summary": counts})
        else:
            self._say("")
            self._say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))

    def _line(self, value: dict[str, Any]) -> None:
        self._say(json.dumps(value))

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _as_json(received: Received, full: bool) -> dict[str, Any]:
    body = {"headers": dict(received.headers), "body": received.body.decode(errors="backslashreplace")}
    return {
        "received_at": iso(received.at),
        "path": received.path,
        "webhook_id": received.message_id,
        "attempt": received.attempt,
        "verified": received.verified,
        "problem": received.problem,
        "times": received.times,
        "type": received.notification.get("type"),
        "message": received.notification.get("message"),
        **(body if full else {}),
    }


def _text(notification: dict[str, Any], name: str) -> str:
    return printable(str(notification.get(name, "?")))


def _behaviour(options: Mapping[str, Any]) -> Behaviour:
    """What the options ask for."""
    behave: Behaviour = honestly
    if options["retry_after"] is not None and options["status"] is None:
        raise CommandError("--retry-after goes with --status, such as --status 429.")
    if options["status"] is not None:
        behave = misbehaviour.status(options["status"], options["retry_after"])
    elif options["redirect"] is not None:
        behave = misbehaviour.redirect(options["redirect"])
    elif options["reset"]:
        behave = misbehaviour.reset
    elif options["garbage"]:
        behave = misbehaviour.garbage
    if options["drip"] is not None:
        behave = misbehaviour.dripping(behave, options["drip"])
    if options["delay"]:
        behave = misbehaviour.late(behave, options["delay"])
    if options["fail_first"] is not None:
        if behave is honestly:
            raise CommandError("--fail-first needs something to do wrong, such as --status 503.")
        behave = misbehaviour.at_first(behave, options["fail_first"])
    return behave


def _port(text: str) -> int:
    return _number(text, int, 0, 65535, "a port is a number from 0 to 65535")


def _status(text: str) -> int:
    return _number(text, int, 200, 599, "a status is a number from 200 to 599")


def _seconds(text: str) -> float:
    return _number(text, float, 0, 3600, "a number of seconds, at most 3600")


def _whole_seconds(text: str) -> int:
    return _number(text, int, 0, 86_400, "a whole number of seconds, at most 86400")


def _times(text: str) -> int:
    return _number(text, int, 1, 1000, "a number from 1 to 1000")


def _number(text: str, kind: Any, low: float, high: float, otherwise: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(otherwise)
    return value
