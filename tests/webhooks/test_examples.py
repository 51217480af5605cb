"""The example of each type has the shape of the real thing, and a test of a type sends it."""

import json

import pytest
from standardwebhooks import Webhook

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from helpdesk.changes.actor import acting_as
from helpdesk.changes.unit import unit
from knowledge.models import Article
from notifications import catalogue, examples
from notifications.models import Notification, WebhookDelivery
from notifications.webhooks import endpoints, trial
from notifications.webhooks.engine import Engine
from tests.webhooks.receiver import OK, Receiver, answering
from tickets.models import Ticket


def shape(value):
    """Keys all the way down."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "a value"


@pytest.fixture
def everything_happens(admin, agent, customer, make_user, make_attachment):
    """Each type at least once, for a customer, an agent and an administrator, all with an endpoint."""
    boss = make_user("boss", Role.ADMIN)

    def happen(url: str) -> None:
        for person in (customer, agent, boss):
            endpoints.create(person, url)
        with acting_as(admin):
            with unit():
                ticket = Ticket.objects.create(title="Printer", requester=customer, assignee=agent)
                ticket.set_tags(["fire"])
            for author in (customer, agent):
                with acting_as(author):
                    question = Comment(ticket=ticket, author=author, content="Why?").post()
                Comment(ticket=ticket, author=admin, content="Because.", parent=question).post()
            comment = Comment(ticket=ticket, author=admin, content="Look.").post()
            comment.content = "Look here."
            comment.save()
            comment.delete()
            file = make_attachment(ticket, admin)
            file.filename = "other.txt"
            file.save()
            file.delete()
            Article.objects.create(title="How", body="So.", author=admin, status="published")
            person = User.objects.create_user("new", email="new@example.com", name="New")
            person.deactivate()
            ticket.priority = "high"
            ticket.save()
            ticket.delete()
        for endpoint in endpoints.WebhookEndpoint.objects.select_related("owner"):
            trial.send_test(endpoint)
        # The owner is told at another endpoint of theirs.
        for person in (customer, agent, boss):
            endpoints.disable(endpoints.create(person, f"{url}gone")[0], "It answered 410 Gone.")

    return happen


@pytest.mark.django_db(transaction=True)
def test_an_example_has_every_key_of_what_is_really_delivered(everything_happens):
    with Receiver(answering(OK)) as receiver:
        everything_happens(receiver.url())
        Engine(concurrency=4, per_endpoint=4, linger=0).run()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"delivered"}
    roles = dict(Notification.objects.values_list("pk", "recipient__role"))
    compared = set()
    for request in receiver.requests:
        real = json.loads(request.partition(b"\r\n\r\n")[2])
        role = next(role for pk, role in roles.items() if str(pk) == real["notification"]["id"])
        type_ = real["notification"]["type"]
        example = examples.of(type_).body(role)
        assert shape(example) == shape(real), (type_, role)
        compared.add((type_, role))
    assert {type_ for type_, _role in compared} == set(catalogue.TYPES)
    assert {type_ for type_, role in compared if role == Role.CUSTOMER} >= {"comment_on_ticket", "attachment_added"}
    # The control: what only staff get is really there for them, and really missing for the customer.
    assert "source" in examples.of("new_ticket").body(Role.ADMIN)["data"]
    assert "source" not in examples.of("new_ticket").body(Role.CUSTOMER)["data"]


@pytest.mark.django_db
@pytest.mark.parametrize("type_", catalogue.TYPES)
def test_the_api_shows_it_without_asking_the_database(api, customer, django_assert_num_queries, type_):
    client = api(customer)
    with django_assert_num_queries(1):  # who is asking
        answer = client.get(f"/api/webhook-types/{type_}")
    assert answer.status_code == 200
    found = answer.json()
    assert found["example"]["notification"]["type"] == found["type"] == type_
    assert found["example"]["notification"]["related_type"] == found["related_type"]
    assert found["example"]["data"]["id"] == found["example"]["notification"]["related_id"]
    assert ("deleted_at" in found["example"]["data"]) == type_.endswith("_deleted")
    assert "%(" not in found["example"]["notification"]["message"]
    assert client.get(f"/api/webhook-types/{type_}").json() == found
    assert not Notification.objects.exists()


@pytest.mark.django_db
def test_all_types_are_listed(api, customer, refusal):
    client = api(customer)
    listed = client.get("/api/webhook-types").json()["results"]
    assert [one["type"] for one in listed] == list(catalogue.TYPES)
    assert all(one["description"] and one["recipients"] and one["message"] for one in listed)
    refusal(client.get("/api/webhook-types/nonsense"), 404)
    refusal(api().get("/api/webhook-types"), 401)
    refusal(api().get("/api/webhook-types/new_ticket"), 401)


# --- Tests of a type -------------------------------------------------------------------------------------------------


def parts(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines}, body


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.AGENT])
@pytest.mark.parametrize("type_", ["comment_on_ticket", "new_ticket", "user_deactivated", "webhook_test"])
def test_a_test_of_a_type_is_its_example_signed_and_marked(api, make_user, type_, role):
    person = make_user("person", role)
    with Receiver(answering(OK)) as receiver:
        # Whatever types it wants: it was asked for.
        endpoint, secret = endpoints.create(person, receiver.url(), types=["ticket_deleted"])
        answer = api(person).post(f"/api/webhook-endpoints/{endpoint.pk}/test", {"type": type_})
    assert (answer.status_code, answer.json()["succeeded"]) == (200, True)
    headers, body = parts(receiver.requests[0])
    payload = Webhook(secret).verify(body, headers)
    assert headers["helpdesk-test"] == "true"
    example = examples.of(type_).body(role)
    if type_ == "webhook_test":
        assert payload["data"]["id"] == str(endpoint.pk)
        assert payload["data"].keys() == example["data"].keys()
        return
    assert payload["data"] == example["data"]
    assert payload["notification"]["message"] == "Test: " + example["notification"]["message"]
    assert payload["notification"]["type"] == type_
    assert payload["notification"]["related_id"] == example["notification"]["related_id"]
    assert payload["notification"]["id"] == str(Notification.objects.get().pk)


@pytest.mark.django_db(transaction=True)
def test_a_test_that_fails_comes_again_the_same_and_what_is_real_is_not_marked(api, customer, ticket, admin):
    bad = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    with Receiver(answering(bad, OK)) as receiver:
        endpoint, _secret = endpoints.create(customer, receiver.url())
        answer = api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/test", {"type": "attachment_added"})
        assert answer.json()["status"] == 500
        WebhookDelivery.objects.update(next_attempt_at="2020-01-01T00:00:00Z")
        with acting_as(admin):
            Comment(ticket=ticket, author=admin, content="Real").post()
        Engine(concurrency=1, per_endpoint=1, linger=0).run()
    (first, body), (second, again), (real, _) = sorted(
        map(parts, receiver.requests),
        key=lambda one: ("helpdesk-test" not in one[0], one[0]["helpdesk-delivery-attempt"]),
    )
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    assert (second["helpdesk-test"], second["helpdesk-delivery-attempt"]) == ("true", "2")
    assert "helpdesk-test" not in real


@pytest.mark.django_db
@pytest.mark.parametrize("type_", ["nonsense", "", None, 1, ["new_ticket"], {}])
def test_a_type_that_there_is_not_is_refused_and_nothing_sent(api, customer, refusal, type_):
    endpoint, _secret = endpoints.create(customer, "http://127.0.0.1:9/hook")
    refusal(
        api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/test", {"type": type_}),
        400,
        "validation_error",
        "type",
    )
    assert not WebhookDelivery.objects.exists()
