"""The fields of a ticket: what is saved, what is told, what is refused."""

import pytest

from comments.models import Comment
from notifications.models import Event, Notification
from tests.admin.pages import form_of, last_event, page
from tickets.models import Status, Ticket


@pytest.fixture
def client(browser, agent):
    return browser(agent)


@pytest.fixture
def address(ticket) -> str:
    return page("tickets_ticket_change", ticket)


def test_a_save_that_changes_nothing_is_no_news(client, address, ticket):
    ticket.description = "  Lines\n\nof text, kept as they are.\n"
    ticket.save()
    ticket.set_tags(["fire", "floor 2"])
    before, count = Ticket.objects.filter(pk=ticket.pk).values().get(), Event.objects.count()
    response = client.post(address, form_of(client.get(address), "ticket_form"))
    assert response.status_code == 302
    assert Event.objects.count() == count
    assert Ticket.objects.filter(pk=ticket.pk).values().get() == before


def test_fields_and_tags_are_told_as_one_change_with_its_actor(client, address, ticket, agent, other_agent):
    count = Event.objects.count()
    form = form_of(client.get(address), "ticket_form")
    form |= {"status": "open", "assignee": str(other_agent.pk), "tags": "Fire,  floor 2 ,"}
    assert client.post(address, form).status_code == 302
    event = last_event("ticket")
    assert Event.objects.count() == count + 1
    assert event.actor == agent
    assert event.changes == {
        "status": ["new", "open"],
        "assignee_id": [None, str(other_agent.pk)],
        "tags": [[], ["fire", "floor 2"]],
    }
    notification = Notification.objects.get(recipient=other_agent)
    assert (notification.type, notification.event) == ("ticket_updated", event)


def test_a_stale_page_does_not_put_back_what_others_changed(client, address, ticket):
    form = form_of(client.get(address), "ticket_form")
    theirs = Ticket.objects.get(pk=ticket.pk)
    theirs.status, theirs.title = Status.PENDING, "Printer still on fire"
    theirs.save()
    theirs.set_tags(["urgent"])
    assert client.post(address, {**form, "priority": "high"}).status_code == 302
    ticket = Ticket.objects.get(pk=ticket.pk)
    assert (ticket.priority, ticket.status, ticket.title, ticket.tags) == (
        "high",
        "pending",
        "Printer still on fire",
        ["urgent"],
    )
    assert set(last_event("ticket").changes) == {"priority"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("title", "", "This field is required."),
        ("title", "x" * 201, "at most 200 characters"),
        ("description", "\x01", "Control characters are not allowed."),
        ("description", "x" * 20_001, "at most 20000 characters"),
        ("status", "broken", "is not one of the available choices"),
        ("requester", "nonsense", "is not a valid UUID"),
        ("tags", ",".join(str(n) for n in range(21)), "A ticket has at most 20 tags."),
        ("tags", "x" * 51, "A tag has 1 to 50 printable characters."),
    ],
)
def test_bad_fields_are_explained_and_nothing_is_saved(client, address, ticket, field, value, message):
    count = Event.objects.count()
    form = {**form_of(client.get(address), "ticket_form"), "priority": "high", field: value}
    response = client.post(address, form)
    assert response.status_code == 200
    assert message in response.content.decode().replace("&#x27;", "'")
    assert Event.objects.count() == count
    assert Ticket.objects.get(pk=ticket.pk).priority == "normal"


def test_only_active_staff_can_be_assigned_and_only_active_people_request(
    client, address, ticket, customer, other_customer, other_agent
):
    other_agent.deactivate()
    other_customer.deactivate()
    form = form_of(client.get(address), "ticket_form")
    for wrong in (
        {"assignee": str(customer.pk)},
        {"assignee": str(other_agent.pk)},
        {"requester": str(other_customer.pk)},
    ):
        response = client.post(address, {**form, **wrong})
        assert response.status_code == 200
        assert response.context["adminform"].form.errors.keys() == wrong.keys()


def test_whoever_is_deactivated_since_stays_on_the_ticket(client, address, ticket, customer, other_agent):
    ticket.assignee = other_agent
    ticket.save()
    other_agent.deactivate()
    customer.deactivate()
    form = form_of(client.get(address), "ticket_form")
    assert client.post(address, {**form, "priority": "high"}).status_code == 302
    ticket.refresh_from_db()
    assert (ticket.assignee, ticket.requester, ticket.priority) == (other_agent, customer, "high")


def test_open_a_ticket_for_a_customer(client, customer, agent):
    data = {
        "title": "By phone",
        "description": "One\r\ntwo",
        "requester": str(customer.pk),
        "status": "open",
        "priority": "low",
        "tags": "phone",
    }
    assert client.post(page("tickets_ticket_add"), data).status_code == 302
    ticket = Ticket.objects.get()
    assert (ticket.title, ticket.description, ticket.tags) == ("By phone", "One\ntwo", ["phone"])
    event = Event.objects.get(entity="ticket")
    assert (event.action, event.actor, event.changes) == ("created", agent, {})


@pytest.mark.parametrize("query", ["requester=nonsense", "assignee=%00", "tags=a,b&title=<b>", "status=nonsense"])
def test_a_prefilled_form_takes_nonsense(client, query):
    assert client.get(f"{page('tickets_ticket_add')}?{query}").status_code == 200


def test_delete_is_soft_and_told(client, ticket, agent, comment):
    response = client.get(page("tickets_ticket_delete", ticket))
    assert "Are you sure" in response.content.decode()
    assert client.post(page("tickets_ticket_delete", ticket), {"post": "yes"}).status_code == 302
    ticket.refresh_from_db()
    assert ticket.deleted_at is not None
    event = last_event("ticket")
    assert (event.action, event.actor) == ("deleted", agent)
    assert Comment.objects.filter(pk=comment.pk, deleted_at=None).exists()


def test_delete_selected_is_soft_and_told_one_by_one(client, customer, agent):
    tickets = [Ticket.objects.create(title=f"T{n}", requester=customer) for n in range(3)]
    data = {"action": "delete_selected", "_selected_action": [ticket.pk for ticket in tickets[:2]]}
    listing = page("tickets_ticket_changelist")
    assert "Are you sure" in client.post(listing, data).content.decode()
    assert client.post(listing, {**data, "post": "yes"}).status_code == 302
    assert list(Ticket.objects.filter(deleted_at=None)) == [tickets[2]]
    assert Ticket.objects.count() == 3
    deletions = Event.objects.filter(entity="ticket", action="deleted")
    assert {(event.entity_id, event.actor) for event in deletions} == {(ticket.pk, agent) for ticket in tickets[:2]}


def test_assign_to_me(client, ticket, agent):
    data = {"action": "assign_to_me", "_selected_action": [ticket.pk]}
    response = client.post(page("tickets_ticket_changelist"), data, follow=True)
    assert "1 ticket is now assigned to you." in response.content.decode()
    event = last_event("ticket")
    assert (event.actor, event.changes) == (agent, {"assignee_id": [None, str(agent.pk)]})
