from argparse import ArgumentParser
from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management import CommandError
from django.utils import timezone

from notifications.management.arguments import delivery_id, find_endpoint, moment
from notifications.management.base import DeliveriesCommand
from notifications.management.output import duration, write_json
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.webhooks import recovery
from notifications.webhooks.recovery import LEFT_OUT, NOT_ARRIVED, RECOVERABLE, RecoveryRefused, Span


class Command(DeliveriesCommand):
    help = "Send deliveries again, under the webhook-id they had: some by id, or all that did not arrive since a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", type=delivery_id, metavar="ID", help="a delivery's id or webhook-id")
        parser.add_argument("--since", type=moment, metavar="ISO", help="those created at or after this time")
        parser.add_argument("--until", type=moment, metavar="ISO", help="with --since: and before this one")
        parser.add_argument("--endpoint", type=UUID, metavar="ID", help="with --since: only those of this endpoint")
        parser.add_argument(
            "--state",
            action="append",
            dest="states",
            choices=RECOVERABLE,
            help=f"with --since: only those in this state, repeatable (default: {', '.join(NOT_ARRIVED)})",
        )
        parser.add_argument(
            "--per-minute",
            type=int,
            metavar="N",
            help=f"with --since: how many a minute to each endpoint, after the first {recovery.AT_ONCE} "
            "(default: WEBHOOK_RECOVERY_PER_MINUTE)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say how many and how long, and send none")

    def handle(
        self,
        *args: Any,
        ids: list[UUID],
        since: datetime | None,
        dry_run: bool,
        as_json: bool,
        **options: Any,
    ) -> None:
        if bool(ids) == bool(since):
            raise CommandError("Name deliveries by their ids, or a time by --since: one of both.")
        if since is None:
            if any(options[name] is not None for name in ("until", "endpoint", "states", "per_minute")):
                raise CommandError("--until, --endpoint, --state and --per-minute go with --since, not with ids.")
            named = _named(ids)
            answer: dict[str, Any] = {"count": len(named) if dry_run else recovery.redeliver(named), "left_out": {}}
        else:
            answer = _recovered(**_checked(since, options), dry_run=dry_run)
        if as_json:
            write_json(self.stdout, {"dry_run": dry_run, **answer})
            return
        noun, verb = "delivery" if answer["count"] == 1 else "deliveries", "would" if dry_run else "will"
        self.stdout.write(f"{answer['count']} {noun} {verb} be sent again.")
        if answer.get("seconds"):
            self.stdout.write(
                f"That takes about {duration(answer['seconds'])}, at {answer['per_minute']} a minute to each endpoint."
            )
        for reason, number in answer["left_out"].items():
            self.stdout.write(f"Left out: {number} {LEFT_OUT[reason]}.")


def _named(ids: list[UUID]) -> list[WebhookDelivery]:
    """The deliveries of these ids; CommandError unless each is there and can be sent."""
    if len(ids) > recovery.AT_ONCE:
        raise CommandError(
            f"At most {recovery.AT_ONCE} ids at a time. What was missed since a time is sent again by --since."
        )
    named = WebhookDelivery.objects.filter(pk__in=ids).select_related("endpoint")
    found = {delivery.pk: delivery for delivery in named}
    problems = [f"{id_} is unknown" for id_ in sorted(set(ids) - set(found))]
    for delivery in found.values():
        obstacle = recovery.obstacle(delivery)
        if obstacle:
            problems.append(f"{delivery.pk} is {LEFT_OUT[obstacle]}")
    if problems:
        raise CommandError(f"Nothing is sent again: {', '.join(problems)}.")
    return list(found.values())


def _checked(since: datetime, options: dict[str, Any]) -> dict[str, Any]:
    """What goes with --since, as `_recovered` takes it; CommandError for what makes no sense."""
    until, per_minute = options["until"] or timezone.now(), options["per_minute"]
    if per_minute is None:
        per_minute = settings.WEBHOOK_RECOVERY_PER_MINUTE
    if since >= until:
        raise CommandError("--since is not before --until, which is now unless it is given.")
    if not 1 <= per_minute <= settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE:
        raise CommandError(f"--per-minute is a number from 1 to {settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE}.")
    span = Span(since, until, tuple(dict.fromkeys(options["states"] or NOT_ARRIVED)))
    endpoint = find_endpoint(options["endpoint"]) if options["endpoint"] else None
    return {"span": span, "endpoint": endpoint, "per_minute": per_minute}


def _recovered(span: Span, endpoint: WebhookEndpoint | None, per_minute: int, *, dry_run: bool) -> dict[str, Any]:
    """Start a recovery of each endpoint that has missed something; what that means, for people and machines."""
    left_out: Counter[str] = Counter()
    if endpoint is None:
        wanted = recovery.endpoints_with(span)
    else:
        estimate = recovery.estimate(endpoint, span, per_minute)
        wanted = [(endpoint, estimate.count)] if estimate.count else []
        left_out.update(estimate.left_out)
    count, longest, started = 0, 0, []
    for missed, number in wanted:
        try:
            if dry_run:
                recovery.check(missed)
            else:
                begun = recovery.start(missed, span, per_minute)
                started.append(begun.pk)
                number = begun.total
        except RecoveryRefused as refusal:
            left_out[refusal.code] += number
        else:
            count, longest = count + number, max(longest, recovery.duration(number, per_minute))
    return {
        "count": count,
        "seconds": longest,
        "per_minute": per_minute,
        "recoveries": started,
        "left_out": dict(left_out),
    }
