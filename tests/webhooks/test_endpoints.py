"""URLs, secrets and states of endpoints, through the API."""

import contextlib
import threading
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import Notification, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints, turns
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
        ("post", f"{one}/check"),
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


def test_another_url_keeps_a_paused_endpoint_paused_and_revives_a_disabled_one(api, customer):
    client = api(customer)
    endpoint, _ = endpoints.create(customer, URL)
    one = f"/api/webhook-endpoints/{endpoint.pk}"
    endpoints.pause(endpoint)
    assert client.patch(one, {"url": f"{URL}/2"}).json()["state"] == "paused"
    assert client.patch(one, {"url": f"{URL}/3", "state": "active"}).json()["state"] == "active"
    endpoint.refresh_from_db()
    endpoints.disable(endpoint, "It answered 410 Gone.")
    assert client.patch(one, {"description": "x"}).json()["state"] == "disabled"
    moved = client.patch(one, {"url": f"{URL}/4"}).json()
    assert (moved["state"], moved["disabled_reason"]) == ("active", "")
    endpoint.refresh_from_db()
    assert endpoint.holding


def test_the_first_url_stays_paused_when_it_is_set_anew(api, customer):
    endpoint, _ = endpoints.create(customer, URL, is_primary=True)
    endpoints.pause(endpoint)
    assert api(customer).put("/api/users/me/webhook", {"webhook_url": f"{URL}/2"}).status_code == 200
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.state) == (f"{URL}/2", "paused")


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
class TestRotating:
    def signed_by(self, client, receiver, one, *secrets):
        """Which of the secrets the receiver may have, to verify what is sent now; the package is the judge."""
        assert client.post(f"{one}/test").json()["status"] == 200
        head, _, body = receiver.requests[-1].partition(b"\r\n\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        headers["webhook-signature"] = head.decode().partition("webhook-signature: ")[2].split("\r\n")[0]
        taken = []
        for secret in secrets:
            with contextlib.suppress(WebhookVerificationError):
                Webhook(secret).verify(body, headers)
                taken.append(secret)
        return taken

    def test_both_sign_until_the_overlap_ends_and_a_second_rotation_ends_the_oldest(self, api, customer):
        client = api(customer)
        with Receiver(answering(OK)) as receiver:
            made = client.post("/api/webhook-endpoints", {"url": receiver.url()}).json()
            one, first = f"/api/webhook-endpoints/{made['id']}", made["secret"]
            assert self.signed_by(client, receiver, one, first) == [first]
            second = client.post(f"{one}/rotate-secret").json()["secret"]
            assert self.signed_by(client, receiver, one, first, second) == [first, second]
            # Two sign, never three.
            third = client.post(f"{one}/rotate-secret").json()["secret"]
            assert self.signed_by(client, receiver, one, first, second, third) == [second, third]
            until = WebhookEndpoint.objects.get().previous_secret_until
            assert timedelta(hours=23) < until - timezone.now() <= timedelta(hours=24)
            WebhookEndpoint.objects.update(previous_secret_until=timezone.now())
            assert self.signed_by(client, receiver, one, first, second, third) == [third]

    def test_another_url_ends_the_old_secret_and_an_overlap_at_once(self, api, customer):
        client = api(customer)
        with Receiver(answering(OK)) as receiver:
            made = client.post("/api/webhook-endpoints", {"url": receiver.url()}).json()
            one, first = f"/api/webhook-endpoints/{made['id']}", made["secret"]
            second = client.post(f"{one}/rotate-secret").json()["secret"]
            third = client.patch(one, {"url": receiver.url(path="/other")}).json()["secret"]
            assert self.signed_by(client, receiver, one, first, second, third) == [third]


class TestChangingAtTheSameTime:
    """Two requests have loaded the endpoint before either of them changes it."""

    @pytest.fixture
    def twice(self, customer):
        endpoint, _ = endpoints.create(customer, URL, own_headers={"X-Key": "a key"})
        return endpoint, WebhookEndpoint.objects.get(pk=endpoint.pk)

    def test_both_secrets_that_were_given_out_sign(self, twice):
        one, other = twice
        first, second = endpoints.rotate_secret(one), endpoints.rotate_secret(other)
        assert WebhookEndpoint.objects.get().secrets() == [second, first]

    def test_another_url_revives_what_was_disabled_meanwhile(self, twice):
        one, other = twice
        endpoints.disable(one, "It answered 410 Gone.")
        endpoints.change(other, url=f"{URL}/2", own_headers={})
        assert (WebhookEndpoint.objects.get().state, other.state) == ("active", "active")

    def test_headers_are_kept_of_those_that_are_there(self, twice):
        one, other = twice
        endpoints.change(one, own_headers={"X-Key": "another key"})
        endpoints.change(other, own_headers={"X-Key": None, "X-More": "more"})
        assert WebhookEndpoint.objects.get().headers() == {"X-Key": "another key", "X-More": "more"}

    def test_one_that_was_deleted_meanwhile_is_not_found(self, api, customer, twice):
        one, other = twice
        endpoints.delete(one)
        for change in (
            endpoints.rotate_secret,
            endpoints.resume,
            endpoints.delete,
            partial(endpoints.change, ordered=True),
        ):
            with pytest.raises(endpoints.EndpointDeleted):
                change(other)

    def test_one_that_was_disabled_meanwhile_is_not_paused(self, twice):
        one, other = twice
        endpoints.disable(one, "It answered 410 Gone.")
        endpoints.pause(other)
        assert WebhookEndpoint.objects.get().state == "disabled"

    @pytest.mark.postgresql
    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
    @pytest.mark.django_db(transaction=True)
    def test_the_second_waits_for_the_first(self, twice):
        """The control of those above: it is the lock that has the second one see what the first has written."""
        one, other = twice
        rotated = []

        def rotate():
            try:
                rotated.append(endpoints.rotate_secret(other))
            finally:
                connection.close()

        thread = threading.Thread(target=rotate)
        with transaction.atomic():
            first = endpoints.rotate_secret(one)
            thread.start()
            thread.join(0.5)
            assert rotated == []
        thread.join()
        assert WebhookEndpoint.objects.get().secrets() == [*rotated, first]


class TestWaitingForAReceiver:
    """Somebody waits for it in a thread that others need too."""

    @pytest.fixture
    def endpoint(self, customer):
        return endpoints.create(customer, URL)[0]

    @pytest.mark.parametrize("what", ["test", "check"])
    def test_one_at_a_time_of_each_person(self, api, customer, endpoint, what):
        with turns.turn(customer.pk):
            response = api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/{what}")
        assert (response.status_code, response.json()["error"]["code"]) == (409, "busy")
        assert api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/{what}").status_code == 200

    def test_few_of_all(self, customer, agent, admin):
        with turns.turn(customer.pk), turns.turn(agent.pk), pytest.raises(turns.Busy), turns.turn(admin.pk):
            pass
        with turns.turn(admin.pk):
            pass


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
    assert recovered.status_code == 202
    assert (recovered.json()["state"], recovered.json()["released"]) == ("finished", 1)
    assert client.post(f"/api/webhook-deliveries/{delivery.pk}/redeliver").json()["state"] == "pending"
    assert client.get(f"/api/webhook-deliveries/{delivery.pk}").json()["attempts"] == []
    listed = client.get(f"/api/webhook-endpoints/{endpoint.pk}/deliveries").json()["results"]
    assert [row["webhook_id"] for row in listed] == [delivery.message_id]
    endpoints.pause(endpoint)
    assert client.post(f"/api/webhook-deliveries/{delivery.pk}/redeliver").status_code == 409


def test_redelivering_what_is_pruned_meanwhile_is_not_found(api, customer, ticket, admin, monkeypatch, refusal):
    endpoints.create(customer, URL)
    with acting_as(admin):
        Comment(ticket=ticket, author=admin, content="x").post()
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(state="exhausted", next_attempt_at=None)

    def pruned_first(chosen):
        WebhookDelivery.objects.all().delete()
        return 0

    monkeypatch.setattr("notifications.api.recovery.recovery.redeliver", pruned_first)
    refusal(api(customer).post(f"/api/webhook-deliveries/{delivery.pk}/redeliver"), 404, "not_found")


def test_rate_limit_and_order(api, customer, refusal):
    client = api(customer)
    created = client.post("/api/webhook-endpoints", {"url": URL, "rate_limit": 5, "ordered": True}).json()
    assert (created["rate_limit"], created["ordered"]) == (5, True)
    path = f"/api/webhook-endpoints/{created['id']}"
    assert client.patch(path, {"description": "x"}).json()["rate_limit"] == 5
    changed = client.patch(path, {"rate_limit": None, "ordered": False}, format="json").json()
    assert (changed["rate_limit"], changed["ordered"]) == (None, False)
    for wrong in (0, -1, 1001, "fast"):
        refusal(client.patch(path, {"rate_limit": wrong}), 400, "validation_error", "rate_limit")


def test_a_change_leaves_alone_what_the_engine_writes(api, customer, monkeypatch):
    endpoint, _ = endpoints.create(customer, URL)
    found = WebhookEndpoint.objects.visible_to(customer).select_related("owner").get()
    WebhookEndpoint.objects.update(breaker="open", holding=True, consecutive_failures=7)
    monkeypatch.setattr("notifications.api.endpoints.get_object_or_404", lambda *args, **kwargs: found)
    assert api(customer).patch(f"/api/webhook-endpoints/{endpoint.pk}", {"description": "x"}).status_code == 200
    endpoint.refresh_from_db()
    assert (endpoint.breaker, endpoint.holding, endpoint.consecutive_failures) == ("open", True, 7)


def test_deliveries_are_filtered_by_state_type_and_time(api, customer, ticket, admin, refusal):
    endpoint, _ = endpoints.create(customer, URL)
    with acting_as(admin):
        comment = Comment(ticket=ticket, author=admin, content="x").post()
        comment.content = "y"
        comment.save()
    WebhookDelivery.objects.filter(notification__type="comment_updated").update(
        state="exhausted", created_at="2025-01-02T00:00:00Z"
    )
    client, path = api(customer), f"/api/webhook-endpoints/{endpoint.pk}/deliveries"

    def found(**query):
        response = client.get(path, query)
        assert response.status_code == 200
        return [row["notification"]["type"] for row in response.json()["results"]]

    assert found() == ["comment_on_ticket", "comment_updated"]
    assert found(type="comment_updated") == found(state="exhausted") == ["comment_updated"]
    assert found(type=["comment_updated", "comment_on_ticket"]) == found(state=["exhausted", "pending"]) == found()
    assert found(created_before="2025-01-02T00:00:00Z") == []
    assert found(created_before="2025-01-02T00:00:01Z") == ["comment_updated"]
    assert found(created_after="2025-01-02T00:00:00Z", created_before="2025-01-03T00:00:00Z") == ["comment_updated"]
    assert found(created_after="2025-01-02T00:00:01Z", state="exhausted") == []
    for bad in ({"state": "lost"}, {"type": "nonsense"}, {"created_after": "yesterday"}, {"status": "held"}):
        refusal(client.get(path, bad), 400, "validation_error", *bad)


@pytest.mark.django_db(transaction=True)
class TestChecking:
    def test_answers_what_the_receiver_takes(self, api, customer):
        with Receiver(answering(OK)) as receiver:
            endpoint, _secret = endpoints.create(customer, receiver.url())
            response = api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/check")
        assert response.status_code == 200
        answer = response.json()
        assert answer["passed"] is False
        failed = {check["code"] for check in answer["checks"] if not check["passed"]}
        assert {"unsigned", "bad_signature", "stale"} <= failed
        assert all(check["advice"] for check in answer["checks"] if not check["passed"])
        assert not endpoint.deliveries.exists()

    def test_our_own_receiver_is_not_asked(self, api, customer):
        endpoint, _secret = endpoints.create(customer, endpoints.INTERNAL_RECEIVER)
        response = api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/check")
        assert (response.status_code, response.json()["error"]["code"]) == (409, "internal_receiver")
