from collections.abc import Callable

import pytest

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints


@pytest.fixture
def endpoint(agent, ticket) -> WebhookEndpoint:
    """The agent's, to whom `ticket` is assigned."""
    ticket.assignee = agent
    ticket.save()
    return endpoints.create(agent, "http://127.0.0.1:9/a")[0]


@pytest.fixture
def deliver(ticket, admin, endpoint) -> Callable[..., list[WebhookDelivery]]:
    """Comments on the agent's ticket: a delivery each."""

    def deliver(count: int = 1, on=ticket) -> list[WebhookDelivery]:
        with acting_as(admin):
            for number in range(count):
                Comment(ticket=on, author=admin, content=f"Comment {number}").post()
        return list(WebhookDelivery.objects.order_by("id"))

    return deliver
