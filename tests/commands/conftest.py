"""For the webhook commands: a listener to send to, and deliveries in any state."""

import threading
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from django.utils import timezone

from notifications import examples
from notifications.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from notifications.recording import record_test
from notifications.webhooks import endpoints
from notifications.webhooks.listener import Listener, Received, honestly


@pytest.fixture
def received() -> list[Received]:
    """What the listener got."""
    return []


@pytest.fixture
def listen(received) -> Iterator[Callable[..., Listener]]:
    """Start a listener on loopback: `listen(behave=status(503))`; give it its `secrets` when they are known."""
    started = []

    def listen(behave=None) -> Listener:
        listener = Listener(
            "127.0.0.1", 0, secrets=[], behave=behave or honestly, report=received.append, note=lambda line: None
        )
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((listener, thread))
        return listener

    yield listen
    for listener, thread in started:
        listener.shutdown()
        thread.join()
        listener.close()


@pytest.fixture
def endpoint(agent) -> WebhookEndpoint:
    """The agent's webhook URL, where nobody listens."""
    return endpoints.set_primary(agent, "http://127.0.0.1:9/hook")[0]


@pytest.fixture
def deliver(endpoint) -> Callable[..., WebhookDelivery]:
    """A delivery to `endpoint`: `deliver("exhausted", created_at=…)`."""

    def deliver(state: str = "exhausted", to: WebhookEndpoint | None = None, **fields) -> WebhookDelivery:
        lease = uuid4()
        record_test(to or endpoint, examples.of_endpoint(to or endpoint, "Test"), lease, timezone.now())
        made = WebhookDelivery.objects.get(lease_token=lease)
        if state != DeliveryState.SENDING:
            fields |= {"lease_token": None, "lease_until": None}
        WebhookDelivery.objects.filter(pk=made.pk).update(state=state, **fields)
        made.refresh_from_db()
        return made

    return deliver
