from tests.admin.pages import page
from tickets.models import Ticket


def numbers(response, which: str = "ticket_tiles") -> dict[str, str]:
    return {tile.label: tile.text for tile in response.context[which]}


def test_the_numbers_of_an_agent(browser, agent, other_agent, ticket, customer, delivery):
    for status, assignee in (
        ("open", agent),
        ("open", other_agent),
        ("pending", agent),
        ("solved", agent),
        ("closed", None),
    ):
        Ticket.objects.create(title=status, requester=customer, status=status, assignee=assignee)
    Ticket.objects.create(title="Gone", requester=customer, assignee=agent).delete()
    response = browser(agent).get(page("index"))
    assert numbers(response) == {
        "New": "1",
        "Open": "2",
        "Pending": "1",
        "On hold": "0",
        "Unassigned": "1",
        "Mine": "2",
        "Unread notifications": "1",
    }
    assert [ticket.title for ticket in response.context["my_tickets"]] == ["pending", "open"]
    assert set(numbers(response, "delivery_tiles").values()) == {"0"}  # of the agent's own endpoints: there are none
    assert "hooks.example.com" not in response.content.decode()


def test_the_numbers_of_webhooks(browser, admin, delivery, endpoint):
    response = browser(admin).get(page("index"))
    assert numbers(response, "delivery_tiles") == {
        "Waiting for the next attempt": "0",
        "Given up": "1",
        "Held": "0",
        "Stopped: a circle": "0",
        "Failing endpoints": "0",
    }


def test_every_number_leads_to_the_list_it_counts(browser, admin, agent, ticket, delivery):
    client = browser(admin)
    response = client.get(page("index"))
    for tile in response.context["ticket_tiles"] + response.context["delivery_tiles"]:
        listing = client.get(tile.url)
        assert listing.status_code == 200, tile
        assert listing.context["cl"].result_count == tile.count, tile


def test_a_number_has_an_end(browser, agent, ticket, customer, monkeypatch):
    monkeypatch.setattr("helpdesk.backoffice.dashboard.MAX_COUNT", 2)
    for _ in range(3):
        Ticket.objects.create(title="More", requester=customer)
    assert numbers(browser(agent).get(page("index")))["New"] == "2+"


def test_the_links_of_each_role(browser, admin, agent):
    def links(person):
        return [label for label, _url in browser(person).get(page("index")).context["navigation"]]

    everyone = ["Tickets", "Comments", "Attachments", "Articles", "Notifications"]
    assert links(agent) == [*everyone, "Endpoints", "Deliveries", "Recoveries"]
    assert links(admin) == [*everyone, "People", "Endpoints", "Deliveries", "Recoveries", "Events"]
