"""Who looks at a ticket: told at once when somebody comes and goes, whatever process they are connected to."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from notifications.sockets import presence
from notifications.sockets.connection import Connection
from notifications.sockets.hub import Hub, hub
from notifications.sockets.people import Person
from notifications.sockets.rooms import ticket_room

from .changes import change, do, told
from .clients import Client


def looks(client_or_person: Any, ticket: Any, seconds: int = presence.VIEWING_SECONDS) -> tuple[str, dict[str, Any]]:
    return (
        "presence",
        {
            "ticket_id": str(ticket.pk),
            "person": Person.of(client_or_person).as_json(),
            "expires_in": seconds,
        },
    )


async def look(client: Client, ticket: Any, **flags: Any) -> list[str]:
    """Say that one looks; returns the names of the others who do."""
    answer = await client.ask("viewing", ticket_id=str(ticket.pk), **flags)
    assert answer["ok"] is True, answer
    return [viewer["name"] for viewer in answer["viewers"]]


async def kept(ticket: Any, *people: Any) -> None:
    """Wait until this process knows that they look: it hears of it from the channel layer, like every other."""
    async with asyncio.timeout(5):
        while not {str(person.pk) for person in people} <= set(hub.presence._known.get(str(ticket.pk), ())):
            await asyncio.sleep(0.01)


async def ended(client: Client, person: Any) -> None:
    """Wait until it is told that this person looks no more."""
    async with asyncio.timeout(5):
        while (await client.event("presence", expires_in=0))["person"]["id"] != str(person.pk):
            pass


@pytest.fixture
def room(ticket) -> str:
    return ticket_room(ticket.pk)


# --- one process -----------------------------------------------------------------------------------------------------
async def test_who_opens_a_ticket_learns_who_is_there(connect, ticket, room, agent, other_agent, admin):
    first, second, third = [await connect(user, room) for user in (agent, other_agent, admin)]
    assert await look(first, ticket) == []
    await kept(ticket, agent)
    assert await look(second, ticket) == [agent.display_name]
    assert await told(first) == [looks(other_agent, ticket)]
    assert sorted(await look(third, ticket)) == sorted([agent.display_name, other_agent.display_name])
    assert await told(second) == [looks(agent, ticket), looks(admin, ticket)]


async def test_a_customer_is_seen_and_does_not_see(connect, ticket, room, customer, other_customer, agent):
    """Which agent opened a ticket and left it again is not for its requester."""
    requester, staff, stranger = [await connect(user) for user in (customer, agent, other_customer)]
    for client in (requester, staff):
        await client.ask("join", room=room)
    await look(staff, ticket)
    assert await look(requester, ticket) == []
    assert await told(requester) == await told(stranger) == []
    assert await told(staff) == [looks(customer, ticket)]
    assert await look(staff, ticket) == [customer.display_name]


async def test_the_first_of_the_staff_learns_of_customers_who_are_there(connect, ticket, room, customer, agent):
    requester = await connect(customer, room)
    await look(requester, ticket)
    staff = await connect(agent, room)
    async with asyncio.timeout(5):
        while await look(staff, ticket) != [customer.display_name]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["says so", "leaves the room", "disconnects"])
async def test_others_learn_at_once_that_somebody_left(connect, ticket, room, agent, admin, how):
    leaving, staying = await connect(agent, room), await connect(admin, room)
    await look(leaving, ticket)
    started = time.monotonic()
    match how:
        case "says so":
            await look(leaving, ticket, active=False)
        case "leaves the room":
            await leaving.ask("leave", room=room)
        case "disconnects":
            await leaving.close()
    await ended(staying, agent)
    assert time.monotonic() - started < 5
    assert await look(staying, ticket) == []


async def test_a_person_with_two_tabs_is_there_until_both_are_closed(connect, ticket, room, agent, admin):
    one, other, watching = await connect(agent, room), await connect(agent, room), await connect(admin, room)
    await look(one, ticket)
    assert await look(other, ticket) == []
    await one.close()
    assert (await told(watching))[-1] == looks(agent, ticket)
    assert await look(watching, ticket) == [agent.display_name]
    await other.close()
    await ended(watching, agent)


async def test_who_says_nothing_any_more_fades(connect, ticket, room, agent, admin, monkeypatch):
    monkeypatch.setattr(presence, "VIEWING_SECONDS", 0.3)
    monkeypatch.setattr(presence, "SWEEP_EVERY", 0.05)
    silent, watching = await connect(agent, room), await connect(admin, room)
    await look(silent, ticket)
    await ended(watching, agent)
    assert await look(watching, ticket) == []


async def test_who_loses_the_ticket_looks_at_it_no_more(
    connect, ticket, room, customer, other_customer, agent, other_agent
):
    requester, staff, demoted = [await connect(user, room) for user in (customer, agent, other_agent)]
    for client in (requester, demoted):
        await look(client, ticket)
    await change(ticket, requester=other_customer)
    await ended(staff, customer)
    await change(other_agent, role="customer")
    await ended(staff, other_agent)
    assert await look(staff, ticket) == []
    await told(demoted)
    await look(staff, ticket)
    assert await told(demoted) == []


async def test_nobody_looks_at_a_deleted_ticket(connect, ticket, room, agent, admin):
    one, other = await connect(agent, room), await connect(admin, room)
    await look(one, ticket)
    await do(ticket.delete)
    await ended(other, agent)


async def test_nothing_is_kept_of_those_who_are_gone(connect, ticket, room, customer, agent):
    clients = [await connect(user, room) for user in (customer, agent)]
    for client in clients:
        await look(client, ticket)
        await client.close()
    async with asyncio.timeout(5):
        while hub.presence._here or hub.presence._looking or hub.presence._known:
            await asyncio.sleep(0.01)


# --- several processes -----------------------------------------------------------------------------------------------
class Page:
    """A connection without a door: what it is told is kept."""

    def __init__(self, person: Person) -> None:
        self.told: list[dict[str, Any]] = []
        self.connection = Connection(self, self._form, person, None)

    def _form(self, event: str, fields: Any) -> str:
        self.told.append({"event": event, **fields})
        return event

    def send_now(self, frame: str) -> bool:
        return True

    async def send(self, frame: str) -> None:
        pass

    async def end(self, *why: Any) -> None:
        pass

    async def told_of(self, person: Any, *, there: bool) -> None:
        async with asyncio.timeout(5):
            while not any(
                it["event"] == "presence" and str(person.pk) in it["person"] and (int(it["expires_in"]) > 0) == there
                for it in self.told
            ):
                await asyncio.sleep(0.01)


@pytest.fixture
async def hubs(_hub) -> AsyncIterator[list[Hub]]:
    """Two hubs that share nothing but the channel layer, as two processes do."""
    made = [Hub(), Hub()]
    yield made
    for one in made:
        await one.stop()


async def enter(process: Hub, user: Any, room: str) -> Page:
    page = Page(Person.of(user))
    await process.enter(page.connection)
    page.connection.start()
    await process.join(page.connection, room, None)
    return page


async def others(process: Hub, page: Page, ticket: Any) -> list[str]:
    return [viewer["name"] for viewer in await process.presence.look(page.connection, ticket.pk)]


async def test_they_see_each_other_across_processes(hubs, ticket, room, agent, other_agent):
    here, there = hubs
    one, other = await enter(here, agent, room), await enter(there, other_agent, room)
    await here.presence.look(one.connection, ticket.pk)
    await other.told_of(agent, there=True)
    assert await others(there, other, ticket) == [agent.display_name]
    one.connection.gone()
    await other.told_of(agent, there=False)
    assert await others(there, other, ticket) == []


async def test_a_process_that_has_just_come_asks_who_is_there(hubs, ticket, room, customer, agent):
    """A process whose people are customers hears no announcements, and is asked all the same."""
    here, there = hubs
    requester = await enter(here, customer, room)
    await here.presence.look(requester.connection, ticket.pk)
    staff = await enter(there, agent, room)
    async with asyncio.timeout(5):
        while await others(there, staff, ticket) != [customer.display_name]:
            await asyncio.sleep(0.01)


async def test_a_process_that_stops_takes_its_people_along(hubs, ticket, room, agent, other_agent):
    here, there = hubs
    one, other = await enter(here, agent, room), await enter(there, other_agent, room)
    await here.presence.look(one.connection, ticket.pk)
    await other.told_of(agent, there=True)
    await here.stop()
    await other.told_of(agent, there=False)


async def test_a_process_that_is_killed_is_forgotten_after_a_while(hubs, ticket, room, agent, other_agent, monkeypatch):
    monkeypatch.setattr(presence, "VIEWING_SECONDS", 1)
    monkeypatch.setattr(presence, "SWEEP_EVERY", 0.05)
    here, there = hubs
    one, other = await enter(here, agent, room), await enter(there, other_agent, room)
    await here.presence.look(one.connection, ticket.pk)
    await other.told_of(agent, there=True)

    async def nothing(*message: Any) -> None:
        pass

    monkeypatch.setattr(here.presence, "_send", nothing)  # a dead process says nothing
    await other.told_of(agent, there=False)


async def test_one_tab_in_each_process_is_one_person(hubs, ticket, room, agent, other_agent):
    _, there = hubs
    tabs = [await enter(one, agent, room) for one in hubs]
    watching = await enter(there, other_agent, room)
    for process, tab in zip(hubs, tabs, strict=True):
        await process.presence.look(tab.connection, ticket.pk)
    await watching.told_of(agent, there=True)
    tabs[0].connection.gone()
    await asyncio.sleep(0.2)
    assert await others(there, watching, ticket) == [agent.display_name]
    assert [it for it in watching.told if it["expires_in"] == "0"] == []
    tabs[1].connection.gone()
    await watching.told_of(agent, there=False)


async def test_a_layer_that_is_away_ends_no_connection(hubs, ticket, room, agent, caplog, monkeypatch):
    here, _ = hubs
    page = await enter(here, agent, room)
    await here.presence.look(page.connection, ticket.pk)

    async def away(*message: Any) -> None:
        raise ConnectionError("the layer is away")

    monkeypatch.setattr(here.presence, "_send", away)
    page.connection.gone()
    async with asyncio.timeout(5):
        while "was not told" not in caplog.text:
            await asyncio.sleep(0.01)
    assert "Traceback" not in caplog.text
