"""Comments over the API: replies, internal notes, closed and reopened tickets."""

import pytest

from comments.api.serializers import CommentSerializer
from comments.models import Comment
from notifications.models import Event
from tickets.models import Ticket

pytestmark = pytest.mark.django_db

FIELDS = {
    "id",
    "ticket_id",
    "parent_id",
    "author_id",
    "author",
    "content",
    "is_internal",
    "created_at",
    "updated_at",
}


@pytest.fixture
def say(api, ticket):
    def say(person, content="Hello", **fields):
        return api(person).post(f"/api/tickets/{ticket.pk}/comments", {"content": content, **fields})

    return say


class TestWriting:
    def test_a_comment(self, say, api, customer, ticket):
        response = say(customer, "It *burns*.\n\n    code")
        assert response.status_code == 201
        body = response.json()
        assert set(body) == FIELDS
        assert (body["content"], body["ticket_id"], body["parent_id"]) == (
            "It *burns*.\n\n    code",
            str(ticket.pk),
            None,
        )
        assert body["author_id"] == str(customer.pk)
        assert body["author"] == {"id": str(customer.pk), "name": "Customer", "role": "customer"}
        assert body["is_internal"] is False
        assert api(customer).get(f"/api/comments/{body['id']}").json() == body
        event = Event.objects.get(entity="comment")
        assert (event.actor, event.action, str(event.entity_id)) == (customer, "created", body["id"])

    def test_without_the_ticket_in_the_address(self, api, agent, ticket, refusal):
        body = {"ticket_id": str(ticket.pk), "content": "Hello", "is_internal": True}
        answer = api(agent).post("/api/comments", body).json()
        assert (answer["ticket_id"], answer["is_internal"]) == (str(ticket.pk), True)
        refusal(api(agent).post("/api/comments", {"content": "Hello"}), 400, "validation_error", "ticket_id")

    def test_a_ticket_in_the_body_must_be_the_one_of_the_address(self, say, customer, ticket, refusal):
        other = Ticket.objects.create(title="Other", requester=customer)
        refusal(say(customer, ticket_id=str(other.pk)), 400, "validation_error", "ticket_id")
        assert say(customer, ticket_id=str(ticket.pk)).status_code == 201

    def test_the_author_is_who_is_signed_in(self, say, customer, agent):
        assert say(customer, author_id=str(agent.pk)).json()["author_id"] == str(customer.pk)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("content", ""),
            ("content", " \n"),
            ("content", None),
            ("content", ["x"]),
            ("content", "x" * 20_001),
            ("content", "\x00"),
            ("content", "\x1b[2J"),
            ("is_internal", "perhaps"),
            ("is_internal", None),
            ("parent_id", "x"),
            ("parent_id", "018f0000-0000-7000-8000-000000000000"),
            ("body", "x"),
        ],
    )
    def test_refuses(self, say, agent, refusal, field, value):
        refusal(say(agent, **{field: value}), 400, "validation_error", field)
        assert not Comment.objects.exists()

    def test_content_is_needed(self, api, agent, ticket, refusal):
        refusal(api(agent).post(f"/api/tickets/{ticket.pk}/comments", {}), 400, "validation_error", "content")


class TestReplies:
    def test_to_a_comment(self, say, agent, comment):
        assert say(agent, parent_id=str(comment.pk)).json()["parent_id"] == str(comment.pk)

    def test_only_within_a_ticket(self, api, say, customer, comment, refusal):
        other = Ticket.objects.create(title="Other", requester=customer)
        body = {"content": "Hello", "parent_id": str(comment.pk)}
        refusal(api(customer).post(f"/api/tickets/{other.pk}/comments", body), 400, "validation_error", "parent_id")

    def test_not_to_a_deleted_comment(self, say, agent, comment, refusal):
        comment.delete()
        refusal(say(agent, parent_id=str(comment.pk)), 400, "validation_error", "parent_id")

    def test_to_a_note_is_a_note(self, say, agent, customer, note, refusal):
        refusal(say(agent, parent_id=str(note.pk)), 400, "validation_error", "is_internal")
        assert say(agent, parent_id=str(note.pk), is_internal=True).status_code == 201
        # A customer is not told whether there is such a note.
        missing = say(customer, parent_id="018f0000-0000-7000-8000-000000000000").json()
        assert say(customer, parent_id=str(note.pk)).json() == missing


class TestTheTicket:
    @pytest.mark.parametrize(
        ("status", "after"),
        [("new", "new"), ("open", "open"), ("pending", "open"), ("on_hold", "on_hold"), ("solved", "open")],
    )
    def test_is_reopened_by_its_requester(self, say, customer, ticket, status, after):
        ticket.status = status
        ticket.save()
        assert say(customer).status_code == 201
        ticket.refresh_from_db()
        assert ticket.status == after

    def test_is_not_reopened_by_agents(self, say, agent, ticket):
        ticket.status = "solved"
        ticket.save()
        assert say(agent).status_code == 201
        ticket.refresh_from_db()
        assert ticket.status == "solved"

    def test_that_is_closed_says_to_open_a_new_one(self, say, customer, agent, ticket, refusal):
        ticket.status = "closed"
        ticket.save()
        for person in (customer, agent):
            assert "open a new one" in refusal(say(person), 409, "ticket_closed")["message"]
        assert not Comment.objects.exists()


class TestChanging:
    def test_the_content(self, api, customer, comment):
        path = f"/api/comments/{comment.pk}"
        answer = api(customer).patch(path, {"content": "Please hurry!"}).json()
        assert (answer["content"], answer["author_id"]) == ("Please hurry!", str(customer.pk))
        assert answer["updated_at"] > answer["created_at"]
        event = Event.objects.get(entity="comment", action="updated")
        assert event.changes == {"content": ["Please hurry.", "Please hurry!"]}

    def test_sending_back_what_one_got_changes_nothing(self, api, customer, agent, comment):
        events = Event.objects.count()
        for person in (customer, agent):
            before = api(person).get(f"/api/comments/{comment.pk}").json()
            assert api(person).patch(f"/api/comments/{comment.pk}", before).json() == before
        assert Event.objects.count() == events

    def test_it_stays_where_it_is(self, api, agent, comment, note, customer, refusal):
        other = Ticket.objects.create(title="Other", requester=customer)
        path = f"/api/comments/{comment.pk}"
        refusal(api(agent).patch(path, {"ticket_id": str(other.pk)}), 400, "validation_error", "ticket_id")
        refusal(api(agent).patch(path, {"parent_id": str(note.pk)}), 400, "validation_error", "parent_id")

    def test_becoming_internal_hides_it(self, api, agent, customer, comment, refusal):
        assert api(agent).patch(f"/api/comments/{comment.pk}", {"is_internal": True}).json()["is_internal"] is True
        refusal(api(customer).get(f"/api/comments/{comment.pk}"), 404, "not_found")

    def test_a_reply_to_a_note_stays_internal(self, api, say, agent, note, refusal):
        reply = say(agent, parent_id=str(note.pk), is_internal=True).json()
        response = api(agent).patch(f"/api/comments/{reply['id']}", {"is_internal": False})
        refusal(response, 400, "validation_error", "is_internal")

    def test_deleting(self, api, customer, comment, refusal):
        assert api(customer).delete(f"/api/comments/{comment.pk}").status_code == 204
        refusal(api(customer).delete(f"/api/comments/{comment.pk}"), 404, "not_found")
        assert Event.objects.filter(entity="comment", action="deleted", actor=customer).count() == 1


class TestFinding:
    def test_filters(self, api, agent, customer, ticket, comment, note):
        elsewhere = Comment(
            ticket=Ticket.objects.create(title="Other", requester=customer), author=agent, content="Elsewhere"
        ).post()

        def found(query: str) -> list[str]:
            return [row["id"] for row in api(agent).get(f"/api/comments?{query}").json()["results"]]

        assert found("") == [str(row.pk) for row in (elsewhere, note, comment)]
        assert found("order=created_at") == [str(row.pk) for row in (comment, note, elsewhere)]
        assert found(f"ticket_id={ticket.pk}") == [str(note.pk), str(comment.pk)]
        assert found(f"author_id={customer.pk}") == [str(comment.pk)]
        assert found("is_internal=true") == [str(note.pk)]

    @pytest.mark.parametrize("query", ["ticket_id=x", "author_id=1", "ticket=1", "order=content", "search=x"])
    def test_queries_that_are_none(self, api, agent, refusal, query):
        refusal(api(agent).get(f"/api/comments?{query}"), 400, "validation_error", query.split("=")[0])

    def test_customers_do_not_ask_for_notes(self, api, customer, refusal):
        refusal(api(customer).get("/api/comments?is_internal=true"), 400, "validation_error", "is_internal")


def test_the_json_of_notifications_asks_nothing_of_the_database(comment, django_assert_num_queries):
    comment = Comment.objects.select_related("author").get(pk=comment.pk)
    with django_assert_num_queries(0):
        assert set(CommentSerializer(comment).data) == FIELDS
        assert CommentSerializer(comment, context={"audience": "staff"}).data["author"]["name"] == "Customer"


def test_a_comment_of_the_system_has_no_author(ticket):
    body = CommentSerializer(Comment(ticket=ticket, content="Imported").post()).data
    assert (body["author_id"], body["author"]) == (None, None)
