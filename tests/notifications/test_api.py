"""The caller's own notifications."""

import pytest

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications.models import Event, Notification

pytestmark = pytest.mark.django_db


@pytest.fixture
def notified(ticket, agent, customer):
    """Three comments on the customer's ticket; what came before is forgotten."""
    Event.objects.all().delete()
    with acting_as(agent):
        for number in range(3):
            Comment(ticket=ticket, author=agent, content=f"Comment {number}").post()
    return list(Notification.objects.order_by("created_at"))


def test_listed_newest_first_with_what_the_contract_names(api, customer, notified):
    results = api(customer).get("/api/notifications").json()["results"]
    assert [row["id"] for row in results] == [str(notification.pk) for notification in reversed(notified)]
    assert list(results[0]) == ["id", "type", "message", "related_id", "related_type", "created_at", "read_at"]
    assert results[0]["message"] == "New comment on your ticket 'Printer on fire' by Agent"


def test_read_one_then_all(api, customer, notified):
    client = api(customer)
    assert client.get("/api/notifications/unread-count").json() == {"unread": 3}
    first = client.post(f"/api/notifications/{notified[0].pk}/read").json()
    assert first["read_at"]
    assert client.post(f"/api/notifications/{notified[0].pk}/read").json() == first
    assert client.get("/api/notifications/unread-count").json() == {"unread": 2}
    unread = client.get("/api/notifications", {"unread": "true"}).json()["results"]
    assert [row["id"] for row in unread] == [str(notified[2].pk), str(notified[1].pk)]
    assert client.post("/api/notifications/read-all").json() == {"unread": 0}
    assert client.get("/api/notifications/unread-count").json() == {"unread": 0}


@pytest.mark.parametrize("stranger", ["other_customer", "agent", "admin"])
def test_nobody_elses(api, request, stranger, notified):
    client = api(request.getfixturevalue(stranger))
    listed = client.get("/api/notifications", {"type": "comment_on_ticket"}).json()["results"]
    assert listed == []
    assert client.post(f"/api/notifications/{notified[0].pk}/read").status_code == 404
    client.post("/api/notifications/read-all")
    assert Notification.objects.filter(pk=notified[0].pk, read_at=None).exists()


@pytest.mark.parametrize("path", ["", "/unread-count", "/read-all"])
def test_anonymous_people_have_none(api, path):
    method = "post" if path == "/read-all" else "get"
    assert getattr(api(), method)(f"/api/notifications{path}").status_code == 401


@pytest.mark.parametrize("query", ["type=nonsense", "unread=maybe", "colour=red", "limit=0", "cursor=x"])
def test_bad_queries_are_refused(api, customer, query):
    response = api(customer).get(f"/api/notifications?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["fields"]


def test_two_queries_however_many(api, customer, notified, django_assert_num_queries):
    client = api(customer)
    with django_assert_num_queries(2):
        client.get("/api/notifications")
