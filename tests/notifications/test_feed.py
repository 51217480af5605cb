"""GET /api/events: everything the caller may see, in order, and nothing else."""

import pytest

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications import publisher
from notifications.models import Event, EventStream

pytestmark = pytest.mark.django_db


@pytest.fixture
def published():
    """Publish what has been recorded; nobody listens."""
    return lambda: publisher.publish_once(lambda messages: None)


def feed(client, **parameters):
    response = client.get("/api/events", parameters)
    assert response.status_code == 200, response.content
    return response.json()


def test_shows_changes_and_notifications_in_order(api, ticket, customer, agent, published):
    with acting_as(agent):
        comment = Comment(ticket=ticket, author=agent, content="Hello").post()
        Comment(ticket=ticket, author=agent, content="Secret", is_internal=True).post()
    published()
    answer = feed(api(customer))
    names = [(frame["event"], frame["cursor"]) for frame in answer["results"]]
    assert [name for name, _ in names] == ["ticket.update", "comment.update", "notification"]
    assert answer["results"][1]["data"]["id"] == str(comment.pk)
    assert names == sorted(names, key=lambda pair: pair[1])
    assert "Secret" not in str(answer)
    assert feed(api(customer), after=answer["cursor"])["results"] == []
    assert "Secret" in str(feed(api(agent)))


def test_what_is_out_of_sight_now_is_not_told_of_the_past(api, ticket, customer, agent, published):
    with acting_as(agent):
        comment = Comment(ticket=ticket, author=agent, content="Regretted").post()
        comment.is_internal = True
        comment.save()
    published()
    answer = feed(api(customer))
    assert "Regretted" not in str(answer)
    assert answer["results"][-1]["action"] == "removed"
    assert answer["results"][-1]["data"] == {"id": str(comment.pk)}


def test_strangers_see_nothing(api, ticket, comment, other_customer, published):
    published()
    assert feed(api(other_customer))["results"] == []
    assert api().get("/api/events").status_code == 401


def test_events_that_are_not_published_are_not_shown(api, ticket, customer, published):
    assert feed(api(customer))["results"] == []
    published()
    assert len(feed(api(customer))["results"]) == 1


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "9" * 30])
def test_a_bad_cursor_is_refused(api, customer, after):
    response = api(customer).get("/api/events", {"after": after})
    assert (response.status_code, list(response.json()["error"]["fields"])) == (400, ["after"])


def test_a_cursor_the_log_cannot_reach_is_gone(api, ticket, customer, comment, published):
    published()
    first, last = Event.objects.published().first(), EventStream.objects.get().last_position
    first.delete()
    EventStream.objects.update(pruned_position=first.position)
    assert api(customer).get("/api/events", {"after": first.position - 1}).status_code == 410
    assert api(customer).get("/api/events", {"after": first.position}).status_code == 200
    assert api(customer).get("/api/events").status_code == 200
    assert api(customer).get("/api/events", {"after": last + 5}).status_code == 410


def test_the_number_of_queries_does_not_grow(api, ticket, customer, agent, published, django_assert_max_num_queries):
    with acting_as(agent):
        for number in range(30):
            Comment(ticket=ticket, author=agent, content=str(number)).post()
    published()
    client = api(customer)
    with django_assert_max_num_queries(8):
        assert len(feed(client)["results"]) == 61
