"""Both doors with real clients: every transport, every way to sign in, every operation, every room, and coming back."""

from collections.abc import Iterator
from typing import Any

import pytest

from .api import Entity
from .contract import check_refusal
from .people import People, Person
from .samples import png
from .sockets import Client, PlainClient, SocketIoDriver
from .system import System

pytestmark = pytest.mark.live

TRANSPORTS = {
    "polling then upgrade": {},
    "websocket only": {"transports": ["websocket"]},
    "polling only": {"transports": ["polling"]},
}


class Doors:
    """Opens either door for a person and closes it after the test."""

    def __init__(self, system: System, driver: SocketIoDriver) -> None:
        self.system = system
        self.driver = driver
        self.opened: list[Client] = []

    def open(self, door: str, person: Person, *rooms: str) -> Any:
        if door == "plain":
            client = PlainClient(self.system.base, person.token)
        else:
            client = self.driver.open(self.system.base, auth={"token": person.token})
            client.connected()
        self.opened.append(client)
        client.join(*rooms)
        return client


@pytest.fixture
def doors(system: System, driver: SocketIoDriver) -> Iterator[Doors]:
    doors = Doors(system, driver)
    yield doors
    for client in doors.opened:
        client.close()


both = pytest.mark.parametrize("door", ["socket.io", "plain"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_stock_client_over_every_transport(
    people: People, system: System, driver: SocketIoDriver, ticket: Entity, transport: str
) -> None:
    with driver.open(system.base, auth={"token": people.customer.token}, **TRANSPORTS[transport]) as client:
        client.connected()
        first = client.inbox.one(lambda message: message["kind"] == "open", "the transport")["transport"]
        assert first == ("websocket" if transport == "websocket only" else "polling")
        if transport == "polling then upgrade":
            upgrade = client.inbox.one(lambda message: message["kind"] == "upgrade", "the upgrade")
            assert upgrade["transport"] == "websocket"
        client.join("comments")
        comment = people.agent.api.comment_on(ticket["id"], f"Over {transport}")
        client.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
        client.event("notification", lambda it: it["related_id"] == comment["id"], "comment_on_ticket")


def test_the_stock_client_with_an_authorization_header(people: People, system: System, driver: SocketIoDriver) -> None:
    headers = {"Authorization": f"Bearer {people.customer.token}"}
    with driver.open(system.base, extraHeaders=headers) as client:
        client.connected()
        client.join("tickets")


def test_the_plain_door_with_a_first_frame(people: People, system: System) -> None:
    with PlainClient(system.base) as client:
        assert client.subprotocol == "helpdesk.v1"
        assert client.ask("auth", token=people.customer.token)["ok"] is True
        client.join("tickets")


def test_the_plain_door_never_echoes_the_token(people: People, system: System) -> None:
    with PlainClient(system.base, people.customer.token) as client:
        client.join("tickets")
        assert client.subprotocol == "helpdesk.v1"


@both
def test_every_room_and_its_events(doors: Doors, people: People, ticket: Entity, door: str) -> None:
    """An admin sees each of the five `*.update` events, with the entity as the API gives it."""
    boss, colleague = people.boss, people.colleague
    client = doors.open(door, boss, "tickets", "comments", "attachments", "users", "kb", f"ticket:{ticket['id']}")

    def update(event: str, action: str, entity_id: str) -> Entity:
        payload = client.event(
            event, lambda it: (it["action"], it["data"]["id"]) == (action, entity_id), f"{action} {entity_id}"
        )
        assert set(payload) == {"action", "data", "cursor"}, payload
        return payload["data"]

    other = people.customer.api.open_ticket("Another one")
    assert update("ticket.update", "created", other["id"]) == boss.api.ticket(other["id"])
    colleague.api.change_ticket(ticket["id"], priority="low")
    assert update("ticket.update", "updated", ticket["id"]) == boss.api.ticket(ticket["id"])
    comment = colleague.api.comment_on(ticket["id"], "First")
    assert update("comment.update", "created", comment["id"]) == boss.api.comment(comment["id"])
    colleague.api.change_comment(comment["id"], "Second")
    assert update("comment.update", "updated", comment["id"])["content"] == "Second"
    attachment = colleague.api.attach(ticket["id"], "one.png", png(), "image/png")
    assert update("attachment.update", "created", attachment["id"]) == boss.api.attachment(attachment["id"])
    colleague.api.rename_attachment(attachment["id"], "two.png")
    assert update("attachment.update", "updated", attachment["id"])["filename"] == "two.png"
    article = colleague.api.write_article("Rooms", status="published")
    assert update("kb.update", "created", article["id"]) == boss.api.article(article["id"])
    user = people.admin.api.create_user(f"seen-by-{door.replace('.', '-')}")
    assert update("user.update", "created", user["id"]) == boss.api.user(user["id"])
    people.admin.api.deactivate(user["id"])
    update("user.update", "updated", user["id"])
    colleague.api.delete_comment(comment["id"])
    assert update("comment.update", "deleted", comment["id"])["deleted_at"]
    people.admin.api.delete_ticket(other["id"])
    assert update("ticket.update", "deleted", other["id"])["deleted_at"]

    arrived = client.inbox.all(lambda message: message["kind"] == "event")
    cursors = [(message["event"], message["payload"]["cursor"]) for message in arrived]
    assert len(set(cursors)) == len(cursors), "an event name and a cursor never repeat"


@both
def test_one_ticket_has_a_room_of_its_own(doors: Doors, people: People, ticket: Entity, door: str) -> None:
    client = doors.open(door, people.customer, f"ticket:{ticket['id']}")
    other = people.customer.api.open_ticket("Not this one")
    people.agent.api.comment_on(other["id"], "Elsewhere")
    comment = people.agent.api.comment_on(ticket["id"], "Here")
    client.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
    assert other["id"] not in str(client.events("comment.update") + client.events("ticket.update"))


@both
def test_who_left_a_room_hears_no_more_of_it(doors: Doors, people: People, ticket: Entity, door: str) -> None:
    client = doors.open(door, people.customer, "comments")
    assert client.ask("leave", room="comments")["ok"] is True
    comment = people.agent.api.comment_on(ticket["id"], "Still in?")
    client.event("notification", lambda it: it["related_id"] == comment["id"], "one's own come without a room")
    people.agent.api.change_comment(comment["id"], "Out!")
    client.event("notification", lambda it: it["notification"]["type"] == "comment_updated", "the marker")
    assert not client.events("comment.update")


@both
def test_typing_and_viewing_reach_those_who_may_see_the_ticket(
    doors: Doors, people: People, ticket: Entity, door: str
) -> None:
    room = f"ticket:{ticket['id']}"
    customer = doors.open(door, people.customer, room)
    agent = doors.open(door, people.agent, room)
    stranger = doors.open(door, people.stranger)
    assert agent.ask("viewing", ticket_id=ticket["id"])["ok"] is True
    assert agent.ask("typing", ticket_id=ticket["id"])["ok"] is True
    assert "ticket_id" in customer.event("typing", lambda it: it["ticket_id"] == ticket["id"], "the agent types")
    assert customer.ask("viewing", ticket_id=ticket["id"])["viewers"] == [], "who looks is for staff"
    agent.event("presence", lambda it: it["ticket_id"] == ticket["id"], "the customer is there")
    assert customer.events("presence") == []
    check_refusal(stranger.ask("typing", ticket_id=ticket["id"]))
    check_refusal(stranger.ask("viewing", ticket_id=ticket["id"]))


@both
def test_a_notification_is_read_over_the_socket(doors: Doors, people: People, ticket: Entity, door: str) -> None:
    client = doors.open(door, people.customer)
    comment = people.agent.api.comment_on(ticket["id"], "Read this")
    notification = client.event("notification", lambda it: it["related_id"] == comment["id"], "comment_on_ticket")
    unread = people.customer.api.unread()
    assert client.ask("notification.read", id=notification["id"])["ok"] is True
    assert people.customer.api.unread() == unread - 1
    check_refusal(doors.open(door, people.stranger).ask("notification.read", id=notification["id"]))


@both
def test_losing_sight_is_told_once_and_ends_the_flow(doors: Doors, people: People, door: str) -> None:
    ticket = people.customer.api.open_ticket("Handed over")
    before = doors.open(door, people.customer, "tickets", "comments")
    after = doors.open(door, people.stranger, "tickets", "comments")
    people.admin.api.change_ticket(ticket["id"], requester_id=people.stranger.id)
    # That it was opened may be told still: a room begins where its process has come to in the stream.
    lost = before.event("ticket.update", lambda it: it["action"] == "removed", "removed")
    assert lost["data"] == {"id": ticket["id"]}
    gained = after.event("ticket.update", lambda it: it["data"]["id"] == ticket["id"], "created")
    assert gained["action"] == "created"
    assert gained["data"] == people.stranger.api.ticket(ticket["id"])

    reply = people.agent.api.comment_on(ticket["id"], "For the new requester")
    after.event("comment.update", lambda it: it["data"]["id"] == reply["id"], "created")
    marker = people.customer.api.open_ticket("The marker")
    before.event("ticket.update", lambda it: it["data"]["id"] == marker["id"], "created")
    assert reply["id"] not in str(before.events())


@both
def test_what_was_missed_is_replayed_in_order_and_once(doors: Doors, people: People, ticket: Entity, door: str) -> None:
    client = doors.open(door, people.customer)
    cursor = client.ask("join", room="comments")["cursor"]
    first = people.agent.api.comment_on(ticket["id"], "Heard")
    heard = client.event("comment.update", lambda it: it["data"]["id"] == first["id"], "created")
    client.close()
    missed = [people.agent.api.comment_on(ticket["id"], f"Missed {number}") for number in range(5)]

    again = doors.open(door, people.customer)
    assert again.ask("join", room="comments", after=heard["cursor"])["ok"] is True
    live = people.agent.api.comment_on(ticket["id"], "Live")
    again.event("comment.update", lambda it: it["data"]["id"] == live["id"], "created")
    ids = [payload["data"]["id"] for payload in again.events("comment.update")]
    assert ids == [comment["id"] for comment in [*missed, live]]

    from_the_start = doors.open(door, people.customer)
    assert from_the_start.ask("join", room="comments", after=cursor)["ok"] is True
    from_the_start.event("comment.update", lambda it: it["data"]["id"] == live["id"], "replayed")
    ids = [payload["data"]["id"] for payload in from_the_start.events("comment.update")]
    assert [id for id in ids if id in {first["id"], live["id"], *(it["id"] for it in missed)}] == [
        comment["id"] for comment in [first, *missed, live]
    ]


def test_the_stock_client_comes_back_by_itself_and_misses_nothing(
    people: People, system: System, driver: SocketIoDriver, ticket: Entity
) -> None:
    with driver.open(system.base, auth={"token": people.customer.token}) as client:
        client.connected()
        client.join("comments")
        client.drop()
        client.connected(count=2)
        client.join("comments")
        comment = people.agent.api.comment_on(ticket["id"], "Welcome back")
        client.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")


def test_a_connection_that_names_its_last_cursor_gets_its_notifications(
    people: People, system: System, driver: SocketIoDriver, ticket: Entity
) -> None:
    with driver.open(system.base, auth={"token": people.customer.token}) as client:
        client.connected()
        comment = people.agent.api.comment_on(ticket["id"], "The last one heard")
        cursor = client.event("notification", lambda it: it["related_id"] == comment["id"], "it")["cursor"]
    missed = [people.agent.api.comment_on(ticket["id"], f"Missed {number}") for number in range(3)]
    with driver.open(system.base, auth={"token": people.customer.token, "after": cursor}) as client:
        client.connected()
        client.event("notification", lambda it: it["related_id"] == missed[-1]["id"], "the last one missed")
        ids = [payload["related_id"] for payload in client.events("notification")]
        assert ids == [comment["id"] for comment in missed]
