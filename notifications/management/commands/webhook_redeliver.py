from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.db.models import Count, Q, QuerySet

from notifications.api.endpoints import NOT_ARRIVED
from notifications.management.arguments import delivery_id, find_endpoint, moment
from notifications.management.base import DeliveriesCommand
from notifications.management.output import write_json
from notifications.models import DeliveryState, EndpointState, WebhookDelivery
from notifications.webhooks import queue

_LIVE = Q(endpoint__deleted_at=None)
_ACTIVE = _LIVE & Q(endpoint__state=EndpointState.ACTIVE)
# What cannot be sent now, and why; no delivery is in two of them, and the rest can be sent.
_NOT_NOW = {
    "of a deleted endpoint": ~_LIVE,
    "of an endpoint that is paused or disabled (resume it first)": _LIVE & ~_ACTIVE,
    "being sent at this moment": _ACTIVE & Q(state=DeliveryState.SENDING),
}


class Command(DeliveriesCommand):
    help = "Send deliveries again, under the webhook-id they had: some by id, or all that did not arrive since a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", type=delivery_id, metavar="ID", help="a delivery's id or webhook-id")
        parser.add_argument("--since", type=moment, metavar="ISO", help="those created at or after this time")
        parser.add_argument("--endpoint", type=UUID, metavar="ID", help="with --since: only those of this endpoint")
        parser.add_argument(
            "--state",
            action="append",
            dest="states",
            choices=DeliveryState.values,
            help=f"with --since: only those in this state, repeatable (default: {', '.join(NOT_ARRIVED)})",
        )
        parser.add_argument("--dry-run", action="store_true", help="say how many, and send none")

    def handle(
        self,
        *args: Any,
        ids: list[UUID],
        since: datetime | None,
        endpoint: UUID | None,
        states: list[str] | None,
        dry_run: bool,
        as_json: bool,
        **options: Any,
    ) -> None:
        if bool(ids) == bool(since):
            raise CommandError("Name deliveries by their ids, or a time by --since: one of both.")
        if ids and (endpoint or states):
            raise CommandError("--endpoint and --state choose among those --since a time, not among ids.")
        left_out: dict[str, int] = {}
        if since is None:
            sendable = _named(ids)
        else:
            wanted = WebhookDelivery.objects.filter(created_at__gte=since, state__in=states or NOT_ARRIVED)
            if endpoint:
                wanted = wanted.filter(endpoint=find_endpoint(endpoint))
            sendable, left_out = _divided(wanted)
        count = sendable.count() if dry_run else queue.redeliver(sendable)
        if as_json:
            write_json(self.stdout, {"count": count, "dry_run": dry_run, "left_out": left_out})
            return
        noun, verb = "delivery" if count == 1 else "deliveries", "would" if dry_run else "will"
        self.stdout.write(f"{count} {noun} {verb} be sent again.")
        for reason, number in left_out.items():
            self.stdout.write(f"Left out: {number} {reason}.")


def _named(ids: list[UUID]) -> QuerySet[WebhookDelivery]:
    """The deliveries of these ids; CommandError unless each is there and can be sent."""
    named = WebhookDelivery.objects.filter(pk__in=ids)
    problems = [f"{id_} is unknown" for id_ in sorted(set(ids) - set(named.values_list("pk", flat=True)))]
    for reason, condition in _NOT_NOW.items():
        problems += [f"{id_} is {reason}" for id_ in named.filter(condition).values_list("pk", flat=True)]
    if problems:
        raise CommandError(f"Nothing is sent again: {', '.join(problems)}.")
    return named


def _divided(wanted: QuerySet[WebhookDelivery]) -> tuple[QuerySet[WebhookDelivery], dict[str, int]]:
    """What of `wanted` can be sent, and how many cannot, by reason."""
    counts = wanted.aggregate(**{str(n): Count("pk", filter=q) for n, q in enumerate(_NOT_NOW.values())})
    left_out = {reason: counts[str(n)] for n, reason in enumerate(_NOT_NOW) if counts[str(n)]}
    return wanted.filter(_ACTIVE).exclude(state=DeliveryState.SENDING), left_out
