"""The numbers on the front page. Each is counted up to a limit, so that the page costs the same at any size."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.urls import reverse

from helpdesk.accounts.models import User
from notifications.models import DeliveryState, Notification, WebhookDelivery, WebhookEndpoint
from tickets.models import OPEN_STATUSES, Status, Ticket

# Beyond this a number reads "999+": it is about where to look, not about bookkeeping.
MAX_COUNT = 999
MY_TICKETS = 10

# Deliveries that should have arrived and have not.
FAILING_STATES = (DeliveryState.RETRYING, DeliveryState.EXHAUSTED, DeliveryState.HELD, DeliveryState.LOOPED)


@dataclass(frozen=True)
class Tile:
    """A number with a name, and the list it counts."""

    label: str
    kind: str
    count: int
    url: str

    @property
    def text(self) -> str:
        return f"{MAX_COUNT}+" if self.count > MAX_COUNT else str(self.count)


def numbers(user: User) -> dict[str, Any]:
    """The context of the front page, for what this person may see."""
    tickets = Ticket.objects.visible_to(user)
    waiting = tickets.filter(status__in=OPEN_STATUSES)
    list_ = "admin:tickets_ticket_changelist"
    mine = waiting.filter(assignee=user)
    tiles = [
        _tile(Status(status).label, f"status-{status}", tickets.filter(status=status), list_, status__exact=status)
        for status in OPEN_STATUSES
    ]
    tiles += [
        _tile("Unassigned", "unassigned", waiting.filter(assignee=None), list_, open="yes", assigned="nobody"),
        _tile("Mine", "mine", mine, list_, open="yes", assigned="me"),
        _tile(
            "Unread notifications",
            "unread",
            Notification.objects.visible_to(user).unread(),
            "admin:notifications_notification_changelist",
            read="no",
        ),
    ]
    delivery_tiles = []
    if user.has_perm("notifications.view_webhookdelivery"):
        deliveries = WebhookDelivery.objects.visible_to(user)
        delivery_tiles = [
            _tile(
                DeliveryState(state).label,
                f"delivery-{state}",
                deliveries.filter(state=state),
                "admin:notifications_webhookdelivery_changelist",
                state__exact=state,
            )
            for state in FAILING_STATES
        ]
        delivery_tiles.append(
            _tile(
                "Failing endpoints",
                "failing",
                WebhookEndpoint.objects.visible_to(user).exclude(failing_since=None),
                "admin:notifications_webhookendpoint_changelist",
                failing="yes",
            )
        )
    return {
        "ticket_tiles": tiles,
        "delivery_tiles": delivery_tiles,
        "my_tickets": mine.select_related("requester").order_by("-created_at", "-id")[:MY_TICKETS],
    }


def _tile(label: str, kind: str, queryset: QuerySet, list_: str, **query: str) -> Tile:
    count = queryset.order_by()[: MAX_COUNT + 1].count()
    return Tile(label, kind, count, f"{reverse(list_)}?{urlencode(query)}")
