"""Endpoints in the admin: their owners manage their own, administrators everyone's."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.throttling import SimpleRateThrottle

from notifications import catalogue
from notifications.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints
from notifications.webhooks.headers import MASK
from tests.admin.pages import form_of, page
from tests.webhooks.receiver import OK, Receiver, answering

NAME = "notifications_webhookendpoint"
FORM = "webhookendpoint_form"
URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def own(agent) -> WebhookEndpoint:
    """An endpoint of the agent with headers."""
    return endpoints.create(
        agent, URL, types=["new_ticket"], own_headers={"Authorization": "Bearer 0123456789", "X-Key": "abcdefghij"}
    )[0]


@pytest.fixture
def client(browser, agent):
    return browser(agent)


def save(client, endpoint, **changes):
    """What a browser sends when these are changed on the page."""
    address = page(f"{NAME}_change", endpoint)
    return client.post(address, {**boxes(client, address), **changes})


def boxes(client, address):
    """The form as it is; boxes of one name are a list."""
    response = client.get(address)
    data = form_of(response, FORM)
    html = response.content.decode()
    data["types"] = re.findall(r'name="types" value="(\w+)"[^>]*checked', html)
    data["initial-types"] = re.findall(r'name="initial-types" value="(\w+)"', html)
    return data


def secret_on(response) -> str:
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    return re.search(r"whsec_[A-Za-z0-9+/=]+", response.content.decode())[0]


def test_add_shows_the_secret_once(client, agent):
    response = client.post(
        page(f"{NAME}_add"),
        {"url": URL, "description": "CRM", "types": ["new_ticket"], "header_lines": "X-Key: 0123456789\r\n\r\n"},
    )
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.owner, endpoint.description, endpoint.types) == (agent, "CRM", ["new_ticket"])
    assert endpoint.headers() == {"X-Key": "0123456789"}
    assert endpoint.secrets() == [secret_on(response)]
    assert "whsec_" not in client.get(page(f"{NAME}_change", endpoint)).content.decode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"url": "https://10.0.0.5/"}, "which is private"),
        ({"url": ""}, "required"),
        ({"url": "javascript:alert(1)"}, "must start with https"),
        ({"url": URL, "header_lines": "Host: evil"}, "Host cannot be set"),
        ({"url": URL, "header_lines": "X-Key"}, "Name: value"),
        ({"url": URL, "header_lines": f"X-Key: {MASK}"}, "no value yet"),
        ({"url": URL, "header_lines": "X-Key: a\r\nX-Key: b"}, "there twice"),
        ({"url": URL, "header_lines": "X-Key: snow ☃"}, "outside Latin-1"),
        ({"url": URL, "types": ["nonsense"]}, "nonsense is not one of the available choices"),
        ({"url": URL, "description": "x" * 201}, "at most 200"),
    ],
)
def test_what_cannot_be_added_is_explained_on_the_page(client, data, words):
    response = client.post(page(f"{NAME}_add"), data)
    assert response.status_code == 200
    html = response.content.decode().replace("&quot;", '"')
    assert words.removeprefix("which ") in html or "the address 10.0.0.5 is private" in html.lower()
    assert not WebhookEndpoint.objects.exists()


def test_too_many(client, own, settings):
    settings.MAX_WEBHOOK_ENDPOINTS = 1
    html = client.post(page(f"{NAME}_add"), {"url": URL}, follow=True).content.decode()
    assert "at most 1 webhook endpoints" in html
    assert WebhookEndpoint.objects.count() == 1


def test_saving_the_page_as_it_is_changes_nothing(client, own):
    before = WebhookEndpoint.objects.values().get()
    assert save(client, own).status_code == 302
    after = WebhookEndpoint.objects.values().get()
    assert {**after, "updated_at": None} == {**before, "updated_at": None}


def test_change(client, own):
    html = client.get(page(f"{NAME}_change", own)).content.decode()
    assert f"Authorization: {MASK}\nX-Key: {MASK}" in html
    assert "0123456789" not in html
    lines = f"X-Key: {MASK}\r\nX-New: a new one"
    response = save(client, own, description="Ours", types=["ticket_updated", "new_ticket"], header_lines=lines)
    assert response.status_code == 302
    own.refresh_from_db()
    assert (own.description, set(own.types)) == ("Ours", {"ticket_updated", "new_ticket"})
    assert own.headers() == {"X-Key": "abcdefghij", "X-New": "a new one"}
    assert own.url == URL


def test_a_page_that_was_open_for_long_puts_back_nothing(client, own):
    address = page(f"{NAME}_change", own)
    data = boxes(client, address)
    endpoints.change(own, description="Meanwhile", own_headers={"X-Key": None, "X-Later": "later"})
    assert client.post(address, {**data, "types": ["user_created"]}).status_code == 302
    own.refresh_from_db()
    assert (own.description, own.types) == ("Meanwhile", ["user_created"])
    assert own.headers() == {"X-Key": "abcdefghij", "X-Later": "later"}


def test_headers_for_one_receiver_are_not_saved_for_another(client, own):
    address = page(f"{NAME}_change", own)
    data = boxes(client, address)
    endpoints.change(own, url=f"{URL}/elsewhere", own_headers={})
    response = client.post(address, {**data, "header_lines": "X-Key: for the first"})
    assert "The URL was changed meanwhile" in response.content.decode()
    own.refresh_from_db()
    assert own.headers() == {}


def test_another_url_shows_a_new_secret_and_takes_no_values_along(client, own):
    first = own.secrets()
    refused = save(client, own, url=f"{URL}/other")
    assert "Another URL is another receiver" in refused.content.decode()
    own.refresh_from_db()
    assert (own.url, own.secrets()) == (URL, first)
    response = save(client, own, url=f"{URL}/other", header_lines="X-Key: for the other one")
    own.refresh_from_db()
    assert own.secrets() == [secret_on(response)] != first
    assert (own.url, own.headers()) == (f"{URL}/other", {"X-Key": "for the other one"})


def test_how_fast_and_in_which_order(client, own):
    assert save(client, own, rate_limit="5", ordered="on").status_code == 302
    own.refresh_from_db()
    assert (own.rate_limit, own.ordered) == (5, True)
    assert "greater than or equal to 1" in save(client, own, rate_limit="0").content.decode()
    present = boxes(client, page(f"{NAME}_change", own))
    del present["ordered"]
    client.post(page(f"{NAME}_change", own), {**present, "rate_limit": ""})
    own.refresh_from_db()
    assert (own.rate_limit, own.ordered) == (None, False)


def press(client, endpoint, button, **data):
    return client.post(page(f"{NAME}_{button}", endpoint), data)


def test_buttons(client, own):
    assert press(client, own, "pause").status_code == 302
    own.refresh_from_db()
    assert own.state == "paused"
    press(client, own, "resume")
    own.refresh_from_db()
    assert own.state == "active"
    first = own.secrets()
    response = press(client, own, "rotate")
    own.refresh_from_db()
    assert own.secrets() == [secret_on(response), *first]
    assert "signs too until" in response.content.decode()
    history = client.get(page(f"{NAME}_history", own)).content.decode()
    assert all(words in history for words in ("Paused.", "Resumed.", "Made a new secret."))


@pytest.mark.django_db(transaction=True)
def test_a_test_of_a_type_is_sent_and_shown(client, agent):
    with Receiver(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as receiver:
        endpoint, _ = endpoints.create(agent, receiver.url())
        response = press(client, endpoint, "test", type="comment_on_ticket")
        assert response.status_code == 302
    assert b'"type":"comment_on_ticket"' in receiver.requests[0]
    html = client.get(response["Location"]).content.decode()
    assert "HTTP 503" in html
    assert "answered 503, it is overloaded or being repaired" in html
    assert "It has failed for less than a minute" in html
    assert "<option selected>comment_on_ticket</option>" in html
    # Its owner sees the attempts on the page of the delivery, and no link to the comment that does not exist.
    html = client.get(page("notifications_webhookdelivery_change", WebhookDelivery.objects.get())).content.decode()
    assert "answered 503, it is overloaded or being repaired</p>" in html
    for shown in (html, client.get(page("notifications_notification_changelist")).content.decode()):
        assert "comment of a test, which does not exist" in shown


@pytest.mark.django_db(transaction=True)
def test_check(client, agent):
    with Receiver(answering(OK)) as receiver:
        endpoint, _ = endpoints.create(agent, receiver.url())
        html = press(client, endpoint, "check").content.decode()
    assert "checks failed." in html
    assert "Does it refuse a request without any of our headers?" in html
    assert WebhookDelivery.objects.count() == 0


@pytest.mark.parametrize("button", ["test", "check"])
def test_tests_have_the_limit_that_they_have_in_the_api(client, own, monkeypatch, button):
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"webhook-test": "1/min"})
    press(client, own, button)
    count = WebhookDelivery.objects.count()
    response = client.post(page(f"{NAME}_{button}", own), follow=True)
    assert "Too many tests" in response.content.decode()
    assert WebhookDelivery.objects.count() == count


def test_what_cannot_be_tested(client, own, agent):
    response = client.post(page(f"{NAME}_test", own), {"type": "nonsense"}, follow=True)
    assert "There is no such notification type." in response.content.decode()
    internal, _ = endpoints.create(agent, endpoints.INTERNAL_RECEIVER)
    response = client.post(page(f"{NAME}_check", internal), follow=True)
    assert "needs no check" in response.content.decode()
    assert WebhookDelivery.objects.count() == 0


def test_examples(client, own):
    address = page(f"{NAME}_change", own)
    for type_ in catalogue.TYPES:
        html = client.get(address, {"example": type_}).content.decode()
        assert f"&quot;type&quot;: &quot;{type_}&quot;" in html
    assert client.get(address, {"example": "nonsense", "attempt": "nonsense"}).status_code == 200


def test_the_attempt_of_another_endpoint_is_not_shown(client, own, attempt):
    html = client.get(page(f"{NAME}_change", own), {"attempt": str(attempt.pk)}).content.decode()
    assert "HTTP 503" not in html
    assert WebhookAttempt.objects.count() == 1


def test_health_is_on_the_page_and_in_the_list(client, own):
    WebhookEndpoint.objects.update(
        failing_since=timezone.now() - timedelta(hours=3, minutes=1),
        consecutive_failures=14,
        last_failure="the certificate <b>expired</b> 2 days ago",
    )
    words = "It has failed for 3 hours, 14 times in a row: the certificate &lt;b&gt;expired&lt;/b&gt; 2 days ago."
    for address in (page(f"{NAME}_change", own), page(f"{NAME}_changelist")):
        assert words in client.get(address).content.decode()


@pytest.mark.parametrize("button", ["pause", "resume", "rotate", "test", "check"])
def test_only_the_owner_and_administrators_press_buttons_and_only_by_posting(
    browser, admin, other_agent, customer, own, button
):
    before = WebhookEndpoint.objects.values().get()
    for person in (other_agent, customer):
        response = press(browser(person), own, button)
        assert response.status_code == 302
        assert str(own.pk) not in response["Location"] or "/login/" in response["Location"]
    assert browser(admin).get(page(f"{NAME}_{button}", own)).status_code == 302
    assert WebhookEndpoint.objects.values().get() == before
    assert WebhookDelivery.objects.count() == 0


def test_an_agent_sees_and_changes_no_other_endpoint(client, own, endpoint):
    html = client.get(page(f"{NAME}_changelist")).content.decode()
    assert "127.0.0.1:9/hook" in html
    assert "hooks.example.com" not in html
    assert client.post(page(f"{NAME}_change", endpoint), {"url": URL}).status_code == 302
    assert client.post(page(f"{NAME}_delete", endpoint), {"post": "yes"}).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.deleted_at) == ("https://hooks.example.com/in", None)


def test_an_administrator_manages_everyones(browser, admin, own):
    assert save(browser(admin), own, description="Looked after").status_code == 302
    own.refresh_from_db()
    assert (own.description, own.owner.username) == ("Looked after", "agent")
