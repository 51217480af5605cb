"""URLs, secrets and states of endpoints, through the API."""

import pytest
from standardwebhooks import Webhook

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import Notification, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints
from notifications.webhooks.endpoints import INTERNAL_RECEIVER
from tests.webhooks.receiver import OK, Receiver, answering

pytestmark = pytest.mark.django_db

URL = "http://127.0.0.1:9000/hook"


@pytest.fixture(params=["/api/users/me/webhook", "/api/user/webhook"])
def path(request):
    return request.param


def test_set_show_change_and_delete(api, customer, path):
    client = api(customer)
    assert client.get(path).json() == {"webhook_url": None}
    created = client.put(path, {"webhook_url": URL})
    assert created.status_code == 200
    assert created.json()["webhook_url"] == URL
    assert created.json()["secret"].startswith("whsec_")
    assert client.put(path, {"webhook_url": URL}).json() == {"webhook_url": URL}
    assert client.get(path).json() == {"webhook_url": URL}
    changed = client.put(path, {"webhook_url": f"{URL}/2"}).json()
    assert changed["secret"] != created.json()["secret"]
    assert client.delete(path).status_code == 204
    assert client.get(path).json() == {"webhook_url": None}


@pytest.mark.parametrize(
    "url",
    [
        "/api/notifications/webhooks/notifications",
        "/api/webhooks/notifications",
        "http://localhost:5000/api/webhooks/notifications",
        "http://testserver/api/notifications/webhooks/notifications",
    ],
)
def test_own_paths_and_own_urls_are_the_same_thing(api, customer, path, url):
    assert api(customer).put(path, {"webhook_url": url}).json()["webhook_url"] == INTERNAL_RECEIVER


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "blank"),
        ("/admin/", "no_such_receiver"),
        ("/api/../admin", "url_path"),
        ("//evil.test/x", "url_path"),
        ("/\\evil.test", "url_path"),
        ("ftp://example.com/", "url_scheme"),
        ("http://user:pass@127.0.0.1/", "url_user_info"),
        ("https://10.0.0.5/hook", "address_refused"),
        ("https://169.254.169.254/latest", "address_refused"),
        ("http://localhost:5000/admin/", "no_such_receiver"),
        ("http://a.test\\@127.0.0.1/", "url_characters"),
        ("https://example.com/" + "a" * 2000, "max_length"),
        (None, "null"),
        (7, None),
        (["x"], "invalid"),
    ],
)
def test_bad_urls_are_refused_with_a_reason_and_change_nothing(api, customer, path, url, code):
    response = api(customer).put(path, {"webhook_url": url})
    assert response.status_code == 400
    assert response.json()["error"]["fields"]["webhook_url"]
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("url", ["http://example.com/", "https://example.com:22/", "http://127.0.0.1/"])
def test_where_no_network_is_allowed_besides_only_https_and_the_usual_ports_are_taken(api, customer, settings, url):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    assert api(customer).put("/api/users/me/webhook", {"webhook_url": url}).status_code == 400


def test_nobody_but_the_owner_and_administrators_reach_an_endpoint(api, customer, other_customer, agent, admin):
    endpoint, secret = endpoints.create(customer, URL)
    one = f"/api/webhook-endpoints/{endpoint.pk}"
    for method, url in [
        ("get", one), ("patch", one), ("delete", one), ("post", f"{one}/rotate-secret"), ("post", f"{one}/test"),
        ("get", f"{one}/deliveries"), ("post", f"{one}/recover"),
    ]:  # fmt: skip
        for stranger in (other_customer, agent):
            assert getattr(api(stranger), method)(url).status_code == 404
        assert getattr(api(), method)(url).status_code == 401
    assert api(admin).get(one).status_code == 200
    assert secret not in api(customer).get(one).content.decode()
    assert "secret" not in api(customer).get(one).json()
    assert api(other_customer).get("/api/webhook-endpoints").json()["results"] == []


def test_create_filter_pause_rotate(api, customer):
    client = api(customer)
    created = client.post("/api/webhook-endpoints", {"url": URL, "types": ["new_ticket"], "description": "CRM"})
    assert created.status_code == 201
    endpoint = created.json()
    one = f"/api/webhook-endpoints/{endpoint['id']}"
    assert client.post("/api/webhook-endpoints", {"url": URL, "types": ["nonsense"]}).status_code == 400
    assert client.patch(one, {"state": "disabled"}).status_code == 400
    assert client.patch(one, {"state": "paused"}).json()["state"] == "paused"
    assert client.patch(one, {"state": "active"}).json()["state"] == "active"
    rotated = client.post(f"{one}/rotate-secret").json()["secret"]
    assert rotated != endpoint["secret"]
    assert WebhookEndpoint.objects.get().secrets() == [rotated, endpoint["secret"]]
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == 404


def test_there_is_a_limit(api, customer, settings):
    settings.MAX_WEBHOOK_ENDPOINTS = 1
    endpoints.create(customer, URL)
    response = api(customer).post("/api/webhook-endpoints", {"url": URL})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "too_many_endpoints")


def test_the_secret_is_encrypted_at_rest(customer):
    endpoint, secret = endpoints.create(customer, URL)
    row = WebhookEndpoint.objects.values().get()
    assert secret not in str(row)
    assert endpoint.secrets() == [secret]


@pytest.mark.django_db(transaction=True)
class TestTrying:
    def test_sends_a_real_one_and_answers_with_the_attempt(self, api, customer):
        with Receiver(answering(OK)) as receiver:
            secret = api(customer).put("/api/users/me/webhook", {"webhook_url": receiver.url()}).json()["secret"]
            response = api(customer).post("/api/users/me/webhook/test")
        assert response.status_code == 200
        assert (response.json()["status"], response.json()["succeeded"]) == (200, True)
        head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        payload = Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
        assert payload["notification"]["type"] == "webhook_test"
        assert payload["notification"]["related_type"] == "webhook"
        assert Notification.objects.get().recipient == customer

    def test_tells_in_plain_words_what_went_wrong(self, api, customer):
        api(customer).put("/api/users/me/webhook", {"webhook_url": "http://127.0.0.1:9/hook"})
        response = api(customer).post("/api/users/me/webhook/test").json()
        assert (response["succeeded"], response["status"]) == (False, None)
        assert "refused the connection" in response["diagnosis"]
        assert WebhookDelivery.objects.get().state == "retrying"

    def test_needs_a_url(self, api, customer):
        response = api(customer).post("/api/users/me/webhook/test")
        assert (response.status_code, response.json()["error"]["code"]) == (409, "no_webhook_url")


def test_redeliver_and_recover(api, customer, ticket, admin):
    endpoint, _ = endpoints.create(customer, URL)
    with acting_as(admin):
        Comment(ticket=ticket, author=admin, content="x").post()
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(state="exhausted", next_attempt_at=None, attempt_count=10)
    client = api(customer)
    recovered = client.post(f"/api/webhook-endpoints/{endpoint.pk}/recover", {"since": "2020-01-01T00:00:00Z"})
    assert recovered.json() == {"count": 1}
    assert client.post(f"/api/webhook-deliveries/{delivery.pk}/redeliver").json()["state"] == "pending"
    assert client.get(f"/api/webhook-deliveries/{delivery.pk}").json()["attempts"] == []
    listed = client.get(f"/api/webhook-endpoints/{endpoint.pk}/deliveries").json()["results"]
    assert [row["webhook_id"] for row in listed] == [delivery.message_id]
    endpoints.pause(endpoint)
    assert client.post(f"/api/webhook-deliveries/{delivery.pk}/redeliver").status_code == 409
