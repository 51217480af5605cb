"""Endpoints, deliveries and attempts as administrators see them."""

import pytest
from django.utils import timezone

from notifications.models import DeliveryState, EndpointState, WebhookAttempt, WebhookDelivery
from notifications.webhooks import endpoints, gates
from tests.admin.pages import page


@pytest.fixture
def client(browser, admin):
    return browser(admin)


def test_a_delivery_with_its_attempts(client, delivery, attempt):
    html = client.get(page("notifications_webhookdelivery_change", delivery)).content.decode()
    assert delivery.message_id in html
    assert "HTTP 503" in html
    assert "It answered &lt;b&gt;503&lt;/b&gt;." in html
    assert "HTTP/1.1 503 &lt;i&gt;Busy&lt;/i&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)" not in html
    assert "12.5 ms" in html
    assert "<textarea" not in html


def test_an_attempt_by_itself_is_escaped(client, attempt):
    html = client.get(page("notifications_webhookattempt_change", attempt)).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)" not in html


def test_many_attempts_are_bounded_and_the_latest_come_first(client, delivery, monkeypatch):
    monkeypatch.setattr("notifications.admin.deliveries.MAX_ATTEMPTS_SHOWN", 3)
    for number in range(1, 6):
        WebhookAttempt.objects.create(
            delivery=delivery, number=number, succeeded=False, diagnosis=f"Diagnosis {number}."
        )
    html = client.get(page("notifications_webhookdelivery_change", delivery)).content.decode()
    assert [n for n in range(1, 6) if f"Diagnosis {n}." in html] == [3, 4, 5]
    assert html.index("Diagnosis 5.") < html.index("Diagnosis 3.")


def redeliver(client, *deliveries, **extra):
    data = {"action": "redeliver_selected", "_selected_action": [delivery.pk for delivery in deliveries], **extra}
    return client.post(page("notifications_webhookdelivery_changelist"), data, follow=True).content.decode()


def test_redeliver(client, delivery):
    assert "1 delivery is sent again." in redeliver(client, delivery)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING
    assert delivery.next_attempt_at <= timezone.now()


def test_redeliver_from_the_page_of_the_delivery(client, delivery):
    address = page("notifications_webhookdelivery_redeliver", delivery)
    assert client.get(address).status_code == 302
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.EXHAUSTED
    response = client.post(address, follow=True)
    assert "1 delivery is sent again." in response.content.decode()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING


def test_what_is_being_sent_is_left_alone(client, delivery):
    delivery.state = DeliveryState.SENDING
    delivery.save()
    assert "1 left alone" in redeliver(client, delivery)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SENDING


def test_agents_and_customers_redeliver_nothing(browser, agent, customer, delivery):
    for person in (agent, customer):
        client = browser(person)
        client.post(page("notifications_webhookdelivery_redeliver", delivery))
        redeliver(client, delivery)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.EXHAUSTED


def on_endpoints(client, action: str, *chosen, **extra):
    data = {"action": action, "_selected_action": [endpoint.pk for endpoint in chosen], **extra}
    return client.post(page("notifications_webhookendpoint_changelist"), data, follow=True).content.decode()


def test_pause_and_resume(client, delivery, endpoint):
    WebhookDelivery.objects.update(state=DeliveryState.PENDING, next_attempt_at=timezone.now())
    assert "1 paused." in on_endpoints(client, "pause", endpoint)
    endpoint.refresh_from_db()
    delivery.refresh_from_db()
    assert (endpoint.state, delivery.state) == (EndpointState.PAUSED, DeliveryState.HELD)
    assert "1 resumed. 1 held delivery is sent now." in on_endpoints(client, "resume", endpoint)
    endpoint.refresh_from_db()
    delivery.refresh_from_db()
    assert (endpoint.state, delivery.state) == (EndpointState.ACTIVE, DeliveryState.HELD)
    gates.release(timezone.now())
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.RETRYING


def test_a_disabled_endpoint_is_not_paused(client, endpoint, agent):
    active, _ = endpoints.create(agent, "https://hooks.example.com/active")
    paused, _ = endpoints.create(agent, "https://hooks.example.com/paused")
    endpoints.pause(paused)
    endpoints.disable(endpoint, "It answered 410 Gone.")
    html = on_endpoints(client, "pause", endpoint, active, paused)
    assert "1 paused. What is due meanwhile is held." in html
    assert "1 paused already." in html
    assert "1 disabled, which get nothing anyway: left as they are." in html
    html = client.post(page("notifications_webhookendpoint_pause", endpoint), follow=True).content.decode()
    assert "It is disabled and gets nothing anyway: left as it is." in html
    for one, state in ((endpoint, "disabled"), (active, "paused"), (paused, "paused")):
        one.refresh_from_db()
        assert one.state == state


@pytest.mark.parametrize("way", ["page", "action"])
def test_delete_an_endpoint(client, delivery, endpoint, way):
    WebhookDelivery.objects.update(state=DeliveryState.PENDING, next_attempt_at=timezone.now())
    if way == "page":
        assert client.get(page("notifications_webhookendpoint_delete", endpoint)).status_code == 200
        client.post(page("notifications_webhookendpoint_delete", endpoint), {"post": "yes"})
    else:
        assert "Are you sure" in on_endpoints(client, "delete_selected", endpoint)
        on_endpoints(client, "delete_selected", endpoint, post="yes")
    endpoint.refresh_from_db()
    delivery.refresh_from_db()
    assert endpoint.deleted_at is not None
    assert delivery.state == DeliveryState.CANCELLED
    assert client.get(page("notifications_webhookendpoint_change", endpoint)).status_code == 302
    html = client.get(page("notifications_webhookdelivery_change", delivery)).content.decode()
    assert "https://hooks.example.com/in (deleted)" in html


def test_no_page_shows_a_secret(client, admin, agent, ticket, delivery, attempt, endpoint, password):
    other, secret = endpoints.create(agent, "https://other.example.com")
    rotated = endpoints.rotate_secret(other)
    endpoints.change(other, own_headers={"X-Key": "the key of the gateway"})
    other.refresh_from_db()
    agent.refresh_from_db()
    never = {
        "secret": secret,
        "new secret": rotated,
        "header": "the key of the gateway",
        "encrypted header": other.encrypted_header_values,
        "prefix": "whsec_",
        "encrypted": other.encrypted_secret,
        "encrypted before": other.encrypted_previous_secret,
        "hash": agent.password,
        "part of the hash": agent.password.rsplit("$", 1)[-1][:6],
        "password": password,
    }
    addresses = [
        page("index"),
        page("tickets_ticket_change", ticket),
        page("accounts_user_changelist"),
        page("accounts_user_change", agent),
        page("accounts_user_history", agent),
        page("auth_user_password_change", agent),
        page("notifications_webhookendpoint_changelist"),
        page("notifications_webhookendpoint_change", other),
        page("notifications_webhookendpoint_history", other),
        page("notifications_webhookendpoint_delete", other),
        page("notifications_webhookdelivery_changelist"),
        page("notifications_webhookdelivery_change", delivery),
        page("notifications_webhookattempt_change", attempt),
        page("notifications_event_changelist"),
        page("notifications_event_change", delivery.notification.event),
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        html = response.content.decode()
        shown = [name for name, value in never.items() if value in html]
        assert not shown, (address, shown)
