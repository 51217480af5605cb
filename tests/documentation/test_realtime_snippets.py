"""The snippets of `docs/realtime.md`, run as printed against a served system, with stock clients."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documentation.pages import Page
from tests.documentation.programs import Program, at_our_port, lay_out
from tests.documentation.shells import difference
from tests.live.api import DEMO_PASSWORD, NEW_PASSWORD, Api, Entity
from tests.live.browser import SeedPage
from tests.live.conftest import require
from tests.live.inbox import Inbox
from tests.live.node_scripts import NODE
from tests.live.system import System
from tests.live.tokens import Forge

pytestmark = pytest.mark.live

PAGE = Page("docs/realtime.md")


@pytest.fixture
def agent(system: System) -> Iterator[Api]:
    agent = Api(system.base).sign_in("agent", DEMO_PASSWORD)
    yield agent
    agent.close()


@pytest.fixture
def customer(system: System, request: pytest.FixtureRequest) -> Iterator[Api]:
    """Somebody new: what others do elsewhere does not reach them."""
    anyone = Api(system.base)
    name = f"reader-{abs(hash(request.node.name)) % 10**8}"
    anyone.register(name)
    customer = anyone.sign_in(name, NEW_PASSWORD)
    yield customer
    customer.close()
    anyone.close()


# --- with a token ---------------------------------------------------------------------------------------------------
def test_the_start_with_the_stock_client(system: System, node: None, customer: Api, tmp_path: Path):
    lay_out(tmp_path, PAGE, system, "start.mjs")
    with Program([require("node"), "start.mjs"], tmp_path) as program:
        program.says("{ ok: true, room: 'tickets', cursor: ")
        customer.open_ticket("Seen at once")
        program.says("created Seen at once ")


class Follower:
    """The `follow` of the page in a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.inbox = Inbox()
        scope: dict[str, Any] = {}
        exec(compile(PAGE.snippet("follow"), "docs/realtime.md", "exec"), scope)
        self._events = scope["follow"](*arguments, **options)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for event in self._events:
                self.inbox.put(event)
        except Exception as error:  # the end of the connection, or a refusal
            self.inbox.put({"event": "ended", "because": str(error)})

    def event(self, name: str, matches: Callable[[Entity], bool] = lambda event: True) -> Entity:
        return self.inbox.one(lambda event: event["event"] == name and matches(event), name)


def test_following_from_python(system: System, agent: Api, customer: Api):
    url = at_our_port("ws://localhost:5000/ws/", system)
    ticket = customer.open_ticket("Pedal squeaks")
    before = customer.feed()[-1]["cursor"]

    follower = Follower(url, customer.access, "tickets", after=before)
    agent.change_ticket(ticket["id"], status="open")
    update = follower.event("ticket.update")
    assert update["data"] == customer.ticket(ticket["id"])
    assert difference(json.loads(PAGE.snippet("ticket.update")), update) == []
    comment = agent.comment_on(ticket["id"], "On my way.")
    notification = follower.event("notification")
    assert notification["notification"]["type"] == "comment_on_ticket"
    assert (notification["type"], notification["data"]["id"]) == ("event", comment["id"])

    resumed = Follower(url, customer.access, "tickets", after=before)
    assert resumed.event("ticket.update") == update
    assert resumed.event("notification") == notification
    assert "bearer" not in system.log()


def test_a_refusal_ends_the_following(system: System):
    follower = Follower(at_our_port("ws://localhost:5000/ws/", system), "no-token", "tickets")
    assert follower.event("ended")["because"] == "The access token is not valid."


# --- coming back ------------------------------------------------------------------------------------------------------
# What a page does with `follow` and `signIn`: everything is told as JSON lines, and a line on stdin does something.
FOLLOWING = """
import { createInterface } from 'node:readline';
import { follow } from './follow.js';
import { signIn } from './tokens.js';

const { URL_OF_SYSTEM: url, WHO: username, PASSWORD: password, TOKENS: given } = process.env;
const say = (kind, fields) => console.log(JSON.stringify({ kind, ...fields }));
const tokens = given ? JSON.parse(given) : [];
const getToken = tokens.length
  ? async () => (tokens.length > 1 ? tokens.shift() : tokens[0])
  : await signIn(url, username, password);
const { socket } = follow({
  url, getToken,
  rooms: ['tickets', 'comments', 'users'],
  refetch: () => say('refetch'),
  onEvent: (name, payload) => say('event', { name, payload }),
  onRefused: (error) => say('refused', { error }),
});
socket.on('connect', () => say('connect'));
socket.on('disconnect', (reason) => say('disconnect', { reason }));
socket.on('connect_error', (error) => say('connect_error', { code: error.data?.code }));
createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'lose') {
    socket.io.reconnection(false);
    socket.io.engine.close();
  } else {
    socket.io.reconnection(true);
    socket.connect();
  }
});
"""


class Following(Program):
    def _read(self) -> None:
        for line in self._process.stdout:
            assert line.startswith("{"), line
            self.lines.put(json.loads(line))

    def said(self, kind: str, count: int = 1) -> Entity:
        return self.lines.wait_for(lambda message: message["kind"] == kind, kind, count=count)[-1]

    def event(self, name: str, matches: Callable[[Entity], bool]) -> Entity:
        return self.lines.one(
            lambda message: message["kind"] == "event" and message["name"] == name and matches(message["payload"]), name
        )["payload"]

    def events(self, name: str) -> list[Entity]:
        found = self.lines.all(lambda message: message["kind"] == "event" and message["name"] == name)
        return [message["payload"] for message in found]


@pytest.fixture
def following(system: System, node: None, customer: Api, tmp_path: Path) -> Callable[..., Following]:
    lay_out(tmp_path, PAGE, system, "follow.js", "tokens.js")
    (tmp_path / "following.js").write_text(FOLLOWING)

    def start(*tokens: str) -> Following:
        who = {"WHO": customer.me()["username"], "PASSWORD": NEW_PASSWORD, "TOKENS": json.dumps(tokens)}
        return Following([require("node"), "following.js"], tmp_path, URL_OF_SYSTEM=system.base, **who)

    return start


def test_a_follower_misses_nothing(following: Callable[..., Following], agent: Api, customer: Api):
    with following() as page:
        page.said("refetch")
        assert page.said("refused")["error"]["code"] == "forbidden", "the room `users`"
        ticket = customer.open_ticket("Lost and found")
        page.event("ticket.update", lambda it: it["data"]["id"] == ticket["id"])
        first = agent.comment_on(ticket["id"], "Heard")
        payload = page.event("notification", lambda it: it["related_id"] == first["id"])
        printed = json.loads(PAGE.snippet("notification"))
        assert difference(printed | {"data": {}}, payload | {"data": {}}) == []
        assert payload["data"] == customer.comment(first["id"])

        page.tell("lose")
        page.said("disconnect")
        missed = [agent.comment_on(ticket["id"], f"Missed {number}") for number in range(3)]
        agent.change_ticket(ticket["id"], priority="high")
        page.tell("come back")
        page.said("connect", count=2)
        last = agent.comment_on(ticket["id"], "Heard again")
        page.event("notification", lambda it: it["related_id"] == last["id"])
        page.event("comment.update", lambda it: it["data"]["id"] == last["id"])

        expected = [comment["id"] for comment in (first, *missed, last)]
        assert [it["related_id"] for it in page.events("notification")] == expected
        assert [it["data"]["id"] for it in page.events("comment.update")] == expected
        assert [it["data"]["priority"] for it in page.events("ticket.update")] == ["normal", "high"]
        assert len(page.lines.all(lambda message: message["kind"] == "refetch")) == 1


def test_a_follower_with_a_stale_token_comes_back(
    following: Callable[..., Following], system: System, agent: Api, customer: Api
):
    forge = Forge(system.environment["SECRET_KEY"])
    short, stale = forge.expiring(customer.access, 4), forge.expired(customer.access)
    with following(short, stale, customer.access) as page:
        page.said("refetch")
        assert page.said("disconnect")["reason"] == "transport close"
        assert page.said("connect_error")["code"] == "token_expired"
        ticket = customer.open_ticket("While nobody looked")
        page.said("connect", count=2)
        page.event("ticket.update", lambda it: it["data"]["id"] == ticket["id"])


def test_the_token_is_renewed_in_time(system: System, node: None, customer: Api, tmp_path: Path):
    """`signIn` takes its first pair from the system and the second by the refresh token, once for all who ask."""
    lay_out(tmp_path, PAGE, system, "tokens.js")
    (tmp_path / "renewing.js").write_text(
        """
        import { signIn } from './tokens.js';
        const { URL_OF_SYSTEM: url, WHO: username, PASSWORD: password } = process.env;
        const getToken = await signIn(url, username, password);
        const first = await getToken();
        console.log('kept', first === await getToken());
        const now = Date.now();
        Date.now = () => now + 7200_000 - 60_000;
        const [second, third] = await Promise.all([getToken(), getToken()]);
        console.log('renewed', second !== first, second === third);
        """
    )
    who = {"WHO": customer.me()["username"], "PASSWORD": NEW_PASSWORD}
    with Program([require("node"), "renewing.js"], tmp_path, URL_OF_SYSTEM=system.base, **who) as program:
        program.says("kept true")
        program.says("renewed true true")


def test_changing_a_list(node: None, system: System, tmp_path: Path):
    lay_out(tmp_path, PAGE, system, "lists.js")
    (tmp_path / "changing.js").write_text(
        """
        import assert from 'node:assert';
        import { changed } from './lists.js';
        const [one, two] = [{ id: 1, updated_at: '2025-01-02' }, { id: 2, updated_at: '2025-01-02' }];
        const newer = { id: 1, updated_at: '2025-01-03', title: 'new' };
        assert.deepEqual(changed([one], 'created', two), [two, one]);
        assert.deepEqual(changed([one, two], 'updated', newer), [newer, two]);
        assert.deepEqual(changed([newer, two], 'updated', one), [newer, two]);
        assert.deepEqual(changed([one], 'created', one), [one]);
        assert.deepEqual(changed([two], 'updated', one), [one, two]);
        assert.deepEqual(changed([one, two], 'deleted', { ...one, deleted_at: '2025-01-04' }), [two]);
        assert.deepEqual(changed([one, two], 'removed', { id: 2 }), [one]);
        console.log('all as printed');
        """
    )
    with Program([require("node"), "changing.js"], tmp_path) as program:
        program.says("all as printed")


def test_the_feed(system: System, customer: Api):
    customer.open_ticket("On the record")
    answer = customer.get("/api/events")
    printed = json.loads(PAGE.snippet("feed"))
    assert set(answer) == set(printed)
    (event,) = [event for event in answer["results"] if event["event"] == "ticket.update"]
    assert set(event) == set(printed["results"][0])


# --- in a browser -----------------------------------------------------------------------------------------------------
@pytest.fixture
def browser(chromium: str, system: System, tmp_path: Path) -> Iterator[Callable[..., SeedPage]]:
    """Open a page of the system's own origin that runs a script."""
    opened: list[SeedPage] = []

    def open_page(script: str, **sign_in: str) -> SeedPage:
        file = tmp_path / "page.js"
        file.write_text(script, encoding="utf-8")
        opened.append(SeedPage(chromium, system.base, os.path.relpath(file, NODE / "pages"), **sign_in))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()
    assert [error for page in opened for error in page.errors()] == []


def test_a_page_of_our_own_with_a_session(browser: Callable[..., SeedPage], agent: Api, customer: Api):
    script = f"""
        {PAGE.snippet("session.js")}
        open({customer.me()["username"]!r}, {NEW_PASSWORD!r}).then((socket) => {{
          socket.on('connect', () => window.report({{ kind: 'state', state: 'connected' }}));
          socket.on('notification', ({{ message }}) => window.report({{ kind: 'state', state: message }}));
        }});
    """
    page = browser(script)
    page.state(lambda state: state == "connected", "connected by the session alone")
    ticket = customer.open_ticket("By cookie")
    agent.comment_on(ticket["id"], "It works.")
    page.state(lambda state: state.startswith("New comment on your ticket 'By cookie'"), "the notification")


def test_a_page_with_a_plain_websocket(browser: Callable[..., SeedPage], system: System, agent: Api, customer: Api):
    hear = "const console = { log: (...said) => window.report({ kind: 'state', state: said.join(' ') }) };\n"
    page = browser(hear + at_our_port(PAGE.snippet("plain.js"), system), token=customer.access)
    page.state(lambda state: state.startswith("signed in as Reader"), "the ready frame")
    page.state(lambda state: state == "answer to 1 done", "the answer to join")
    ticket = customer.open_ticket("Plainly")
    page.state(lambda state: state == "created Plainly", "the ticket")
    agent.comment_on(ticket["id"], "Heard.")
    page.state(lambda state: state.startswith("New comment on your ticket 'Plainly'"), "the notification")


def test_the_plain_page_is_told_why_it_may_not(browser: Callable[..., SeedPage], system: System):
    hear = "const console = { log: (...said) => window.report({ kind: 'state', state: said.join(' ') }) };\n"
    page = browser(hear + at_our_port(PAGE.snippet("plain.js"), system), token="no-token")
    page.state(lambda state: state == "token_invalid The access token is not valid.", "the error frame")
    page.state(lambda state: state == "4401 The access token is not valid.", "code and reason of the end")


def test_the_list_in_react(browser: Callable[..., SeedPage], system: System, agent: Api, customer: Api, tmp_path: Path):
    lay_out(tmp_path, PAGE, system, "lists.js", "use-tickets.js")
    (component,) = [snippet.text for snippet in PAGE.snippets if snippet.language == "jsx"]
    (tmp_path / "tickets.jsx").write_text(
        f"""
        import * as React from 'react';
        import {{ useRealTimeUpdates }} from {str(NODE / "seed/use-real-time-updates.js")!r};
        import {{ useTickets }} from './use-tickets.js';
        {component}
        export {{ Tickets }};
        """
    )
    script = f"""
        import {{ createElement }} from 'react';
        import {{ createRoot }} from 'react-dom/client';
        import {{ Tickets }} from {str(tmp_path / "tickets.jsx")!r};
        window.updateEntity = () => {{}};
        const root = document.getElementById('root');
        const lines = () => Array.from(root.querySelectorAll('li'), (li) => li.textContent);
        const look = () => window.report({{ kind: 'state', state: lines() }});
        new MutationObserver(look).observe(root, {{ childList: true, subtree: true, characterData: true }});
        createRoot(root).render(createElement(Tickets));
    """
    there = customer.open_ticket("There before")
    page = browser(script, username=customer.me()["username"], password=NEW_PASSWORD)
    line = f"#{there['number']} There before"
    page.state(lambda state: state == [line], "what was fetched")
    new = customer.open_ticket("New")
    page.state(lambda state: state == [f"#{new['number']} New", line], "what came by the socket")
    customer.ask("PATCH", f"/api/tickets/{new['id']}", {"title": "Renamed"})
    page.state(lambda state: state == [f"#{new['number']} Renamed", line], "the change in its place")
    agent.delete_ticket(there["id"])
    page.state(lambda state: state == [f"#{new['number']} Renamed"], "the deleted one gone")
