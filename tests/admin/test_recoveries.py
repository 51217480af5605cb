"""Recoveries in the admin: asked for with a look at what they would do, watched, cancelled."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.models import DeliveryState, WebhookDelivery, WebhookRecovery
from notifications.webhooks import endpoints, recovery
from notifications.webhooks.recovery import Span
from tests.admin.pages import form_of, page

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(browser, admin):
    return browser(admin)


@pytest.fixture
def running(delivery, endpoint, admin, monkeypatch) -> WebhookRecovery:
    """A recovery that has released nothing yet."""
    monkeypatch.setattr(recovery, "release", lambda recovery_id: 0)
    return recovery.start(endpoint, yesterday(), requested_by=admin)


def yesterday() -> Span:
    return Span(timezone.now() - timedelta(days=1), timezone.now() + timedelta(seconds=1))


def asked(client, endpoint) -> dict:
    """What a browser sends from the page that the endpoint's page leads to."""
    html = client.get(page("notifications_webhookendpoint_change", endpoint)).content.decode()
    address = f"{page('notifications_webhookrecovery_add')}?endpoint={endpoint.pk}"
    assert address in html
    form = form_of(client.get(address), "recover_form")
    assert form["endpoint"] == str(endpoint.pk)
    since = timezone.now() - timedelta(days=1)
    return {
        **form,
        "states": ["exhausted", "held", "retrying"],
        "since_0": since.strftime("%Y-%m-%d"),
        "since_1": since.strftime("%H:%M:%S"),
    }


def test_first_how_many_then_for_real(client, admin, delivery, endpoint):
    address = page("notifications_webhookrecovery_add")
    form = asked(client, endpoint)
    answer = client.post(address, {**form, "_estimate": "x"})
    assert "<strong>1</strong> delivery would be sent again." in answer.content.decode()
    assert not WebhookRecovery.objects.exists()
    answer = client.post(address, {**form, "_start": "x"}, follow=True)
    begun = WebhookRecovery.objects.get()
    assert answer.redirect_chain[-1][0] == page("notifications_webhookrecovery_change", begun)
    assert (begun.requested_by, begun.state, begun.released) == (admin, "finished", 1)
    html = answer.content.decode()
    assert "1 of 1" in html
    assert "Cancel this recovery" not in html
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"endpoint": "nonsense"}, "is not a valid"),
        ({"since_0": ""}, "This field is required."),
        ({"since_0": "2999-01-01"}, "It must be before “until”"),
        ({"since_0": "2020-01-02", "until_0": "2020-01-01", "until_1": "00:00"}, "It must be before “until”"),
        ({"states": ["sending"]}, "Select a valid choice"),
        ({"per_minute": "0"}, "greater than or equal to 1"),
        ({"per_minute": "6001"}, "At most 6000"),
    ],
)
def test_nonsense_is_refused_with_the_reason(client, delivery, endpoint, fields, words):
    form = asked(client, endpoint) | fields
    answer = client.post(page("notifications_webhookrecovery_add"), {**form, "_start": "x"})
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not WebhookRecovery.objects.exists()


def test_an_endpoint_that_is_paused_or_busy_is_refused(client, delivery, endpoint, running):
    form = asked(client, endpoint)
    answer = client.post(page("notifications_webhookrecovery_add"), {**form, "_start": "x"})
    assert f"Recovery {running.pk} of this endpoint is running" in answer.content.decode()
    recovery.cancel(running, "Anna")
    endpoints.pause(endpoint)
    answer = client.post(page("notifications_webhookrecovery_add"), {**form, "_start": "x"})
    assert "The endpoint is paused: resume it first." in answer.content.decode()


def test_watch_and_cancel(client, running, delivery):
    address = page("notifications_webhookrecovery_change", running)
    html = client.get(address).content.decode()
    assert "0 of 1" in html
    assert "Cancel this recovery" in html
    assert '<meta http-equiv="refresh" content="5">' in html
    assert "(this page reloads itself)" in html
    assert "0 of 1" in client.get(page("notifications_webhookrecovery_changelist")).content.decode()
    cancel = page("notifications_webhookrecovery_cancel", running)
    client.get(cancel)
    running.refresh_from_db()
    assert running.is_running
    assert "1 cancelled." in client.post(cancel, follow=True).content.decode()
    running.refresh_from_db()
    assert (running.state, running.state_reason) == ("cancelled", "Cancelled by Admin.")
    assert 'http-equiv="refresh"' not in client.get(address).content.decode()
    assert "1 over already." in client.post(cancel, follow=True).content.decode()
    unknown = cancel.replace(str(running.pk), "018f0000-0000-7000-8000-000000000000")
    assert "doesn’t exist" in client.post(unknown, follow=True).content.decode()


def test_people_recover_their_own_endpoints_only(browser, agent, customer, running, endpoint):
    client = browser(agent)
    listed = client.get(page("notifications_webhookrecovery_changelist"))
    assert (listed.status_code, listed.context["cl"].result_count) == (200, 0)
    assert client.get(page("notifications_webhookrecovery_add")).status_code == 200
    for person, status in ((agent, 302), (customer, 302)):
        client = browser(person)
        assert client.get(page("notifications_webhookrecovery_change", running)).status_code == status
        client.post(page("notifications_webhookrecovery_add"), {"endpoint": endpoint.pk, "_start": "x"})
        client.post(page("notifications_webhookrecovery_cancel", running))
    assert WebhookRecovery.objects.get().is_running


def test_at_most_a_hundred_are_selected(client, delivery, monkeypatch):
    monkeypatch.setattr(recovery, "AT_ONCE", 0)
    data = {"action": "redeliver_selected", "_selected_action": [delivery.pk]}
    html = client.post(page("notifications_webhookdelivery_changelist"), data, follow=True).content.decode()
    assert "Select at most 0." in html
    assert WebhookDelivery.objects.get().state == DeliveryState.EXHAUSTED
