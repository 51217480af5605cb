import argparse
from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery

from notifications.management.arguments import find_endpoint, find_user, moment
from notifications.management.base import DeliveriesCommand
from notifications.management.output import write_json, write_table
from notifications.models import DeliveryState, WebhookAttempt, WebhookDelivery

MAX_LIMIT = 1000

COLUMNS = {
    "id": None,
    "state": None,
    "type": None,
    "user": 30,
    "url": 50,
    "attempts": None,
    "next_attempt": None,
    "last_diagnosis": 80,
}


class Command(DeliveriesCommand):
    help = "Show webhook deliveries, newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--state", choices=DeliveryState.values)
        parser.add_argument("--endpoint", type=UUID, metavar="ID")
        parser.add_argument("--user", help="whose: a username or an e-mail address")
        parser.add_argument("--since", type=moment, metavar="ISO", help="created at or after this time")
        parser.add_argument("--limit", type=_limit, default=50, help=f"at most {MAX_LIMIT} (default: %(default)s)")

    def handle(
        self,
        *args: Any,
        state: str | None,
        endpoint: UUID | None,
        user: str | None,
        since: datetime | None,
        limit: int,
        as_json: bool,
        **options: Any,
    ) -> None:
        deliveries = WebhookDelivery.objects.all()
        if state:
            deliveries = deliveries.filter(state=state)
        if endpoint:
            deliveries = deliveries.filter(endpoint=find_endpoint(endpoint))
        if user:
            deliveries = deliveries.filter(endpoint__owner=find_user(user))
        if since:
            deliveries = deliveries.filter(created_at__gte=since)
        latest = WebhookAttempt.objects.filter(delivery=OuterRef("pk")).order_by("-id").values("diagnosis")[:1]
        # Ids are ordered by time, and the primary key is the one index over all deliveries.
        found = (
            deliveries.annotate(diagnosis=Subquery(latest))
            .select_related("endpoint__owner", "notification")
            .order_by("-id")[:limit]
        )
        rows = [_row(delivery) for delivery in found]
        if as_json:
            write_json(self.stdout, rows)
        elif rows:
            write_table(self.stdout, COLUMNS, rows)
        else:
            self.stdout.write("No deliveries.")


def _row(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.pk,
        "webhook_id": delivery.message_id,
        "endpoint": delivery.endpoint_id,
        "state": delivery.state,
        "type": delivery.notification.type,
        "user": delivery.endpoint.owner.username,
        "url": delivery.endpoint.url,
        "attempts": delivery.attempt_count,
        "created_at": delivery.created_at,
        "next_attempt": delivery.next_attempt_at,
        "delivered_at": delivery.delivered_at,
        # Why it is held or cancelled is news; what the last receiver said comes second.
        "last_diagnosis": delivery.state_reason or delivery.diagnosis,  # type: ignore[attr-defined]
    }


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LIMIT):
        raise argparse.ArgumentTypeError(f"a limit is a number from 1 to {MAX_LIMIT}")
    return int(text)
