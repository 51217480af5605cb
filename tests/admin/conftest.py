from collections.abc import Callable

import pytest
from django.test import Client

from helpdesk.accounts.models import User
from notifications.models import Event, Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints


@pytest.fixture
def browser() -> Callable[..., Client]:
    """Browsers: `browser(agent)` is signed in, `browser()` is not."""

    def client(user: User | None = None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return client


@pytest.fixture
def endpoint(admin) -> WebhookEndpoint:
    """An endpoint of the administrator."""
    return endpoints.create(admin, "https://hooks.example.com/in")[0]


@pytest.fixture
def delivery(endpoint, ticket) -> WebhookDelivery:
    """A delivery to `endpoint` that was given up, caused by the opening of `ticket`."""
    event = Event.objects.filter(entity="ticket", ticket_id=ticket.pk).first()
    notification, _ = Notification.objects.get_or_create(
        event=event,
        recipient=endpoint.owner,
        defaults={
            "type": "new_ticket",
            "message": "New ticket",
            "related_type": "ticket",
            "related_id": ticket.pk,
        },
    )
    WebhookDelivery.objects.all().delete()
    return WebhookDelivery.objects.create(
        endpoint=endpoint, notification=notification, state="exhausted", attempt_count=10, next_attempt_at=None
    )


@pytest.fixture
def attempt(delivery) -> WebhookAttempt:
    """A failed attempt, whose receiver answered with markup."""
    return WebhookAttempt.objects.create(
        delivery=delivery,
        number=1,
        succeeded=False,
        status_code=503,
        diagnosis="It answered <b>503</b>.",
        total_ms=12.5,
        response_head="HTTP/1.1 503 <i>Busy</i>",
        response_body="<script>alert(1)</script>",
    )
