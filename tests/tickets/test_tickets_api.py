"""Tickets over the API: opening, changing, finding, deleting."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from helpdesk.changes.actor import acting_as
from notifications.models import Event
from tickets.api.serializers import TicketSerializer
from tickets.models import Ticket

pytestmark = pytest.mark.django_db

FIELDS = {
    "id",
    "number",
    "title",
    "description",
    "status",
    "priority",
    "requester_id",
    "requester",
    "assignee_id",
    "assignee",
    "tags",
    "created_at",
    "updated_at",
}
STAFF_FIELDS = {"source", "external_id"}


@pytest.fixture
def events(ticket):
    """What was told of tickets since the test began: (action, actor, changes)."""
    known = set(Event.objects.values_list("pk", flat=True))

    def events():
        new = Event.objects.exclude(pk__in=known).filter(entity="ticket").order_by("id")
        return [(event.action, event.actor, event.changes) for event in new]

    return events


class TestOpening:
    def test_by_a_customer(self, api, customer, ticket, events):
        response = api(customer).post("/api/tickets", {"title": " Fax ", "description": "Beeps", "priority": "high"})
        assert response.status_code == 201
        body = response.json()
        assert set(body) == FIELDS
        assert (body["title"], body["description"], body["status"], body["priority"]) == ("Fax", "Beeps", "new", "high")
        assert body["requester_id"] == str(customer.pk)
        assert body["requester"] == {"id": str(customer.pk), "name": "Customer", "role": "customer"}
        assert (body["assignee_id"], body["assignee"], body["tags"]) == (None, None, [])
        assert body["number"] > ticket.number
        assert events() == [("created", customer, {})]

    def test_by_an_agent_for_someone(self, api, agent, admin, customer, events):
        body = {
            "title": "Fax",
            "status": "open",
            "requester_id": str(customer.pk),
            "assignee_id": str(admin.pk),
            "tags": ["Fax", " two  words ", "fax"],
        }
        answer = api(agent).post("/api/tickets", body).json()
        assert set(answer) == FIELDS | STAFF_FIELDS
        assert (answer["requester"]["name"], answer["assignee"]["name"]) == ("Customer", "Admin")
        assert answer["tags"] == ["fax", "two words"]
        assert answer["description"] == ""
        assert events() == [("created", agent, {})]
        assert answer == api(agent).get(f"/api/tickets/{answer['id']}").json()

    def test_an_agent_is_their_own_requester(self, api, agent):
        assert api(agent).post("/api/tickets", {"title": "Mine"}).json()["requester_id"] == str(agent.pk)

    def test_what_one_may_not_choose_is_refused_by_name(self, api, customer, agent, refusal, events):
        body = {"title": "Fax", "status": "solved", "assignee_id": str(agent.pk), "priority": "low"}
        refusal(api(customer).post("/api/tickets", body), 403, "permission_denied", "status", "assignee_id")
        assert events() == []

    def test_what_one_may_not_choose_may_be_what_it_is(self, api, customer):
        body = {"title": "Fax", "status": "new", "assignee_id": None, "requester_id": str(customer.pk), "tags": []}
        assert api(customer).post("/api/tickets", body).status_code == 201

    def test_not_for_or_with_who_has_left(self, api, agent, make_user, refusal):
        gone = make_user("gone", "agent", is_active=False)
        for field in ("requester_id", "assignee_id"):
            response = api(agent).post("/api/tickets", {"title": "Fax", field: str(gone.pk)})
            refusal(response, 400, "validation_error", field)

    def test_a_customer_is_assigned_nothing(self, api, agent, customer, refusal):
        response = api(agent).post("/api/tickets", {"title": "Fax", "assignee_id": str(customer.pk)})
        assert "agent" in refusal(response, 400, "validation_error", "assignee_id")["fields"]["assignee_id"][0]

    def test_times_have_microseconds_and_z(self, api, agent, ticket):
        body = api(agent).get(f"/api/tickets/{ticket.pk}").json()
        assert body["created_at"] == ticket.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TestChanging:
    def test_everything_at_once_is_one_event(self, api, agent, other_customer, ticket, events):
        body = {
            "title": "Fax",
            "status": "open",
            "priority": "urgent",
            "assignee_id": str(agent.pk),
            "requester_id": str(other_customer.pk),
            "tags": ["fax"],
        }
        response = api(agent).patch(f"/api/tickets/{ticket.pk}", body)
        assert response.status_code == 200
        assert response.json() == api(agent).get(f"/api/tickets/{ticket.pk}").json()
        [(action, actor, changes)] = events()
        assert (action, actor) == ("updated", agent)
        assert set(changes) == {"title", "status", "priority", "assignee_id", "requester_id", "tags"}
        assert changes["tags"] == [[], ["fax"]]

    def test_sending_back_what_one_got_changes_nothing(self, api, agent, customer, ticket, events):
        for person in (agent, customer):
            before = api(person).get(f"/api/tickets/{ticket.pk}").json()
            assert api(person).patch(f"/api/tickets/{ticket.pk}", before).json() == before
        assert api(agent).patch(f"/api/tickets/{ticket.pk}", {}).status_code == 200
        assert events() == []

    def test_read_only_fields_are_ignored(self, api, agent, ticket, events):
        body = {"id": "x", "number": 1, "created_at": "x", "requester": {"id": 1}, "source": "x", "title": "Fax"}
        answer = api(agent).patch(f"/api/tickets/{ticket.pk}", body).json()
        assert (answer["number"], answer["source"], answer["title"]) == (ticket.number, "", "Fax")

    def test_taking_it_from_everyone(self, api, agent, ticket):
        ticket.assignee = agent
        ticket.save()
        answer = api(agent).patch(f"/api/tickets/{ticket.pk}", {"assignee_id": None}).json()
        assert (answer["assignee_id"], answer["assignee"]) == (None, None)

    def test_an_assignee_who_has_left_may_stay(self, api, agent, other_agent, ticket):
        ticket.assignee = other_agent
        ticket.save()
        other_agent.deactivate()
        body = {"assignee_id": str(other_agent.pk), "title": "Fax"}
        assert api(agent).patch(f"/api/tickets/{ticket.pk}", body).status_code == 200

    def test_nothing_is_half_changed(self, api, agent, ticket, refusal, events):
        body = {"title": "Fax", "assignee_id": "018f0000-0000-7000-8000-000000000000"}
        refusal(api(agent).patch(f"/api/tickets/{ticket.pk}", body), 400, "validation_error", "assignee_id")
        ticket.refresh_from_db()
        assert ticket.title == "Printer on fire"
        assert events() == []

    def test_a_customer_corrects_a_new_ticket_only(self, api, customer, agent, ticket, refusal):
        client = api(customer)
        assert client.patch(f"/api/tickets/{ticket.pk}", {"description": "It smokes."}).status_code == 200
        api(agent).patch(f"/api/tickets/{ticket.pk}", {"status": "open"})
        error = refusal(client.patch(f"/api/tickets/{ticket.pk}", {"description": "No."}), 403, "permission_denied")
        assert "comment" in error["message"]
        ticket.refresh_from_db()
        assert ticket.description == "It smokes."


class TestDeleting:
    def test_hides_it_and_all_that_belongs_to_it(self, api, agent, ticket, comment, make_attachment, refusal, events):
        attachment = make_attachment(ticket, agent)
        response = api(agent).delete(f"/api/tickets/{ticket.pk}")
        assert (response.status_code, response.content) == (204, b"")
        for path in (f"tickets/{ticket.pk}", f"comments/{comment.pk}", f"attachments/{attachment.pk}"):
            refusal(api(agent).get(f"/api/{path}"), 404, "not_found")
        refusal(api(agent).delete(f"/api/tickets/{ticket.pk}"), 404, "not_found")
        assert Ticket._base_manager.filter(pk=ticket.pk, deleted_at__isnull=False).exists()
        assert [(action, actor) for action, actor, _ in events()] == [("deleted", agent)]


class TestIncludes:
    def test_the_conversation(self, api, agent, ticket, comment, note, make_attachment):
        attachment = make_attachment(ticket, agent)
        body = api(agent).get(f"/api/tickets/{ticket.pk}?include=comments,attachments").json()
        assert [row["id"] for row in body["comments"]["results"]] == [str(comment.pk), str(note.pk)]
        assert [row["id"] for row in body["attachments"]["results"]] == [str(attachment.pk)]
        assert body["comments"] == api(agent).get(f"/api/tickets/{ticket.pk}/comments").json()
        plain = api(agent).get(f"/api/tickets/{ticket.pk}").json()
        assert {name: body[name] for name in plain} == plain
        assert "comments" not in plain

    def test_a_long_one_leads_on(self, api, agent, ticket):
        comments = ticket.comments.model.objects
        comments.bulk_create_without_signals(
            [comments.model(ticket=ticket, author=agent, content=str(n)) for n in range(101)]
        )
        page = api(agent).get(f"/api/tickets/{ticket.pk}?include=comments").json()["comments"]
        assert [row["content"] for row in page["results"]] == [str(n) for n in range(100)]
        rest = api(agent).get(page["next"]).json()
        assert ([row["content"] for row in rest["results"]], rest["next"]) == (["100"], None)

    @pytest.mark.parametrize("query", ["include=users", "include=comments,", "include=", "expand=comments"])
    def test_what_nobody_offers(self, api, agent, ticket, refusal, query):
        response = api(agent).get(f"/api/tickets/{ticket.pk}?{query}")
        if query in ("include=", "include=comments,"):
            assert response.status_code == 200
        else:
            refusal(response, 400, "validation_error", query.split("=")[0])


class TestFinding:
    @pytest.fixture
    def found(self, api, agent):
        """Titles of the tickets that a query finds, oldest first."""
        return lambda query, person=None: [
            row["title"] for row in api(person or agent).get(f"/api/tickets?order=number&{query}").json()["results"]
        ]

    @pytest.fixture
    def tickets(self, ticket, customer, other_customer, agent):
        rows = {
            "Fax": {"status": "open", "priority": "high", "assignee": agent},
            "Façade Ümlaut": {"status": "pending", "requester": other_customer},
            "Import": {"source": "old", "external_id": "A-17"},
        }
        with acting_as(agent):
            for title, fields in rows.items():
                Ticket.objects.create(**{"title": title, "requester": customer, **fields}).set_tags(["x", title])
        return {ticket.title: ticket for ticket in Ticket.objects.all()}

    @pytest.mark.parametrize(
        ("query", "titles"),
        [
            ("status=open", ["Fax"]),
            ("status=open&status=pending", ["Fax", "Façade Ümlaut"]),
            ("priority=high", ["Fax"]),
            ("priority=high&status=pending", []),
            ("requester_id={other}", ["Façade Ümlaut"]),
            ("assignee_id={agent}", ["Fax"]),
            ("assignee_id=none", ["Printer on fire", "Façade Ümlaut", "Import"]),
            ("tag=x", ["Fax", "Façade Ümlaut", "Import"]),
            ("tag=x&tag=FAX", ["Fax"]),
            ("tag=fax&tag=import", []),
            ("source=old", ["Import"]),
            ("source=old&external_id=A-17", ["Import"]),
            ("search=fax", ["Fax"]),
            ("search=PRINT", ["Printer on fire"]),
            ("search=fire+printer", ["Printer on fire"]),
            ("search=burns", ["Printer on fire"]),
            ("search=%23{number}", ["Fax"]),
            ("search={number}", ["Fax"]),
            ("search=+++", ["Printer on fire", "Fax", "Façade Ümlaut", "Import"]),
            ("search=...", []),
            ("created_after={after}", ["Façade Ümlaut", "Import"]),
            ("created_before={after}", ["Printer on fire", "Fax"]),
            ("updated_after={after}", ["Façade Ümlaut", "Import"]),
        ],
    )
    def test_filters(self, found, tickets, other_customer, agent, query, titles):
        for name in ("Printer on fire", "Fax"):
            ticket = tickets[name]
            past = ticket.created_at - timedelta(days=2)
            Ticket.objects.filter(pk=ticket.pk).update_without_signals(created_at=past, updated_at=past)
        after = (tickets["Fax"].created_at - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        values = {"other": other_customer.pk, "agent": agent.pk, "number": tickets["Fax"].number, "after": after}
        assert found(query.format(**values)) == titles

    def test_search_shows_customers_their_own_only(self, found, tickets, other_customer):
        assert found("search=fa", other_customer) == ["Façade Ümlaut"]
        assert found(f"search={tickets['Fax'].number}", other_customer) == []
        assert found("requester_id=" + str(tickets["Fax"].requester_id), other_customer) == []

    @pytest.mark.parametrize(
        "query",
        [
            "status=burning",
            "status=",
            "priority=1",
            "requester_id=me",
            "requester_id=none",
            "assignee_id=nobody",
            "tag=",
            "tag=a%00",
            "&".join(f"tag={n}" for n in range(11)),
            f"tag={'x' * 51}",
            "created_after=yesterday",
            "created_after=2026-13-01",
            "created_after=9999-12-31T23:59:59-23:00",
            "created_before=0001-01-01T00:00:00%2B23:00",
            f"search={'x' * 201}",
            "search=a%00b",
            f"external_id={'x' * 101}",
            "title=Fax",
        ],
    )
    def test_queries_that_are_none(self, api, agent, refusal, query):
        refusal(api(agent).get(f"/api/tickets?{query}"), 400, "validation_error", query.split("=")[0])

    @pytest.mark.parametrize("query", ["source=old", "external_id=A-17"])
    def test_what_customers_do_not_see_they_cannot_ask_for(self, api, customer, refusal, query):
        refusal(api(customer).get(f"/api/tickets?{query}"), 400, "validation_error", query.split("=")[0])

    @hypothesis_settings(
        max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
    )
    @given(text=st.text(min_size=1, max_size=60))
    def test_any_search_is_answered(self, api, agent, ticket, text):
        response = api(agent).get("/api/tickets", {"search": text})
        assert response.status_code in ((400,) if "\x00" in text else (200,)), text


class TestTheJsonOfNotifications:
    """The serializer runs inside a change's transaction, without a request."""

    def test_customers_get_theirs(self, ticket):
        Ticket.objects.filter(pk=ticket.pk).update_without_signals(source="old", external_id="1")
        ticket.refresh_from_db()
        assert set(TicketSerializer(ticket).data) == FIELDS
        assert set(TicketSerializer(ticket, context={"audience": "customer"}).data) == FIELDS
        assert set(TicketSerializer(ticket, context={"audience": "staff"}).data) == FIELDS | STAFF_FIELDS

    def test_asks_nothing_of_the_database(self, ticket, django_assert_num_queries):
        ticket = Ticket.objects.with_people().get(pk=ticket.pk)
        with django_assert_num_queries(0):
            assert TicketSerializer(ticket).data["requester"]["name"] == "Customer"
