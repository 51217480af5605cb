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
from tests.live.client_package import install_into
from tests.live.conftest import require
from tests.live.inbox import Inbox, eventually
from tests.live.node_scripts import NODE
from tests.live.sockets import SocketIoDriver
from tests.live.system import System

pytestmark = [pytest.mark.live, pytest.mark.once]

PAGE = Page("docs/realtime.md")
README = Page("clients/js/README.md")


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
    opened = eventually(
        lambda: [it for it in customer.feed() if it.get("data", {}).get("id") == ticket["id"]], "the ticket in the feed"
    )
    before = opened[-1]["cursor"]

    follower = Follower(url, customer.access, "tickets", after=before)
    agent.change_ticket(ticket["id"], status="open")
    update = follower.event("ticket.update")
    assert update["data"] == customer.ticket(ticket["id"])
    assert difference(json.loads(PAGE.snippet("ticket.update")), update) == []
    comment = agent.comment_on(ticket["id"], "On my way.")
    notification = follower.event("notification")
    assert notification["notification"]["type"] == "comment_on_ticket"
    assert (notification["type"], notification["data"]["id"]) == ("event", comment["id"])
    printed = json.loads(PAGE.snippet("notification"))
    # In a plain frame `type` and `event` are the frame's own.
    plain = {"data": {}, "type": "event", "event": "notification"}
    assert difference(printed | plain, notification | plain) == []

    resumed = Follower(url, customer.access, "tickets", after=before)
    assert resumed.event("ticket.update") == update
    assert resumed.event("notification") == notification
    assert "bearer" not in system.log()


def test_a_refusal_ends_the_following(system: System):
    follower = Follower(at_our_port("ws://localhost:5000/ws/", system), "no-token", "tickets")
    assert follower.event("ended")["because"] == "The access token is not valid."


# --- coming back ------------------------------------------------------------------------------------------------------
def test_the_board_misses_nothing(client_package: None, system: System, customer: Api, tmp_path: Path):
    """The five minutes: the server is stopped and started, and something happens in between."""
    username = customer.me()["username"]
    lay_out(tmp_path, PAGE, system, "board.mjs", "tokens.mjs")
    install_into(tmp_path)
    with Program([require("node"), "board.mjs"], tmp_path) as board:
        board.says("connected")
        board.says(" tickets")
        customer.open_ticket("Before")
        board.says("created Before")
        system.stop()
        board.says("connecting")
        system.manage("shell", "-c", TICKET_BESIDE.format(requester=username))
        system.start()
        board.says("created Meanwhile")
        customer.open_ticket("After")
        board.says("created After")
        created = [it["line"] for it in board.lines.all() if it["line"].startswith("created ")]
        assert created == ["created Before", "created Meanwhile", "created After"]
        assert len([it for it in board.lines.all() if it["line"].endswith(" tickets")]) == 1


TICKET_BESIDE = """
from helpdesk.accounts.models import User
from tickets.models import Ticket
Ticket(title="Meanwhile", description="-", requester=User.objects.get(username={requester!r})).save()
"""


def test_the_readme_of_the_package(client_package: None, system: System, agent: Api, customer: Api, tmp_path: Path):
    lay_out(tmp_path, README, system, "start.mjs", "operations.mjs")
    install_into(tmp_path)
    setting = f"""
        import {{ open }} from './operations.mjs';
        const getToken = async () => {customer.access!r};
        const fetchWhatIsShown = (reason) => console.log('fetch', reason);
        const showTicket = (action, data) => console.log(action, data.title);
        const showToast = (message) => console.log(message);
        const showStatus = async (status) => {{
          console.log(status);
          if (status !== 'connected') return;
          console.log('nothing:', await open(client, '018f0000-0000-7000-8000-000000000000'));
          const watch = await open(client, process.env.TICKET);
          watch.typing();
        }};
    """
    start = (tmp_path / "start.mjs").read_text()
    (tmp_path / "start.mjs").write_text(setting + start)
    ticket = customer.open_ticket("In the README")
    with Program([require("node"), "start.mjs"], tmp_path, TICKET=ticket["id"]) as program:
        program.says("fetch start")
        program.says("nothing: null")
        agent.change_ticket(ticket["id"], priority="high")
        program.says("updated In the README")
        agent.comment_on(ticket["id"], "Done")
        program.says("New comment on your ticket 'In the README'")


def test_the_token_is_renewed_in_time(system: System, node: None, customer: Api, tmp_path: Path):
    """`signIn` takes its first pair from the system and the second by the refresh token, once for all who ask."""
    lay_out(tmp_path, PAGE, system, "tokens.mjs")
    (tmp_path / "renewing.js").write_text(
        """
        import { signIn } from './tokens.mjs';
        const { URL_OF_SYSTEM: url, WHO: username, PASSWORD: password } = process.env;
        const getToken = await signIn(url, username, password);
        const first = await getToken();
        console.log('kept', first === await getToken());
        const now = Date.now();
        Date.now = () => now + 7200_000 - 60_000;
        const [second, third] = await Promise.all([getToken(), getToken()]);
        console.log('renewed', second !== first, second === third);
        console.log('refused', (await getToken({ refused: true })) !== second);
        """
    )
    who = {"WHO": customer.me()["username"], "PASSWORD": NEW_PASSWORD}
    with Program([require("node"), "renewing.js"], tmp_path, URL_OF_SYSTEM=system.base, **who) as program:
        program.says("kept true")
        program.says("renewed true true")
        program.says("refused true")


def test_the_feed(system: System, customer: Api):
    customer.open_ticket("On the record")
    # A moment after the answer to the change, when the publisher has given it its place.
    eventually(lambda: customer.get("/api/events")["results"], "the ticket in the feed")
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


def test_the_app_in_react(
    client_package: None,
    browser: Callable[..., SeedPage],
    system: System,
    agent: Api,
    customer: Api,
    tmp_path: Path,
):
    lay_out(tmp_path, PAGE, system, "app.jsx", "watch.js")
    install_into(tmp_path)
    app = tmp_path / "app.jsx"
    app.write_text(f"import * as React from 'react';\n{app.read_text()}")
    script = f"""
        import {{ createElement, StrictMode }} from 'react';
        import {{ createRoot }} from 'react-dom/client';
        import {{ App }} from {str(app)!r};
        const root = document.getElementById('root');
        const texts = (selector) => Array.from(root.querySelectorAll(selector), (it) => it.textContent);
        const look = () => window.report({{
          kind: 'state',
          state: {{
            tickets: texts('li'),
            bell: texts('span'),
            busy: root.querySelector('p')?.getAttribute('aria-busy'),
          }},
        }});
        new MutationObserver(look).observe(root, {{
          childList: true, subtree: true, characterData: true, attributes: true,
        }});
        createRoot(root).render(createElement(StrictMode, null, createElement(App)));
    """
    there = customer.open_ticket("There before")
    page = browser(script, username=customer.me()["username"], password=NEW_PASSWORD)
    line = f"#{there['number']} There before"
    page.state(lambda state: state["tickets"] == [line] and state["busy"] == "false", "what was fetched, connected")
    new = customer.open_ticket("New")
    page.state(lambda state: state["tickets"] == [f"#{new['number']} New", line], "what came by the socket")
    customer.ask("PATCH", f"/api/tickets/{new['id']}", {"title": "Renamed"})
    page.state(lambda state: state["tickets"] == [f"#{new['number']} Renamed", line], "the change in its place")
    agent.comment_on(there["id"], "Heard")
    page.state(lambda state: len(state["bell"]) == 1 and "There before" in state["bell"][0], "the notification")
    agent.delete_ticket(there["id"])
    page.state(lambda state: state["tickets"] == [f"#{new['number']} Renamed"], "the deleted one gone")


def test_every_hook_of_the_package(
    client_package: None,
    browser: Callable[..., SeedPage],
    system: System,
    agent: Api,
    customer: Api,
    driver: SocketIoDriver,
    tmp_path: Path,
):
    """What the app above does not use."""
    install_into(tmp_path)
    ticket = customer.open_ticket("Hooked")
    hooks = tmp_path / "hooks.js"
    hooks.write_text(
        f"""
        import {{ createElement, useEffect }} from 'react';
        import {{ createRoot }} from 'react-dom/client';
        import {{ HelpdeskClient }} from '@helpdesk/realtime';
        import {{
          HelpdeskProvider, useNotifications, useRealTimeUpdates, useTicketPeople, useUnreadCount,
        }} from '@helpdesk/realtime/react';

        const received = {{
          notification: {{ id: 'by-hand', related_type: 'ticket', message: 'By hand' }},
          data: {{ id: 'elsewhere', title: 'By a webhook' }},
        }};
        function Page() {{
          const {{ socket, isConnected }} = useRealTimeUpdates();
          const {{ notifications, tickets, comments, handleWebhook }} = useNotifications();
          const unread = useUnreadCount(0);
          const {{ viewing, typing, onTyping }} = useTicketPeople({ticket["id"]!r});
          useEffect(() => {{
            window.onTyping = onTyping;
            window.report({{ kind: 'state', state: {{
              id: isConnected && socket.id,
              notifications: notifications.map(({{ message }}) => message),
              tickets: tickets.map(({{ title }}) => title),
              comments: comments.map(({{ content }}) => content),
              unread,
              viewing: viewing.map(({{ role }}) => role),
              typing: typing.map(({{ role }}) => role),
            }} }});
          }});
          return createElement('input', {{ onInput: () => onTyping(), onClick: () => handleWebhook(received) }});
        }}
        const client = new HelpdeskClient({{ token: window.token }});
        const root = document.getElementById('root') ?? document.body.appendChild(document.createElement('div'));
        createRoot(root).render(createElement(HelpdeskProvider, {{ client }}, createElement(Page)));
        client.on('ticket.update', ({{ data }}) => {{
          const input = root.querySelector('input');
          if (data.title === 'Type now') input.dispatchEvent(new Event('input', {{ bubbles: true }}));
          if (data.title === 'Take this') input.click();
        }});
        """
    )
    page = browser(f"import {str(hooks)!r};", token=agent.access)
    page.state(lambda state: bool(state["id"]), "connected")
    requester = driver.open(system.base, auth={"token": customer.access})
    requester.connected()
    requester.join(f"ticket:{ticket['id']}")
    assert requester.ask("viewing", ticket_id=ticket["id"])["ok"]
    page.state(lambda state: state["viewing"] == ["customer"], "the customer there")
    requester.ask("typing", ticket_id=ticket["id"])
    page.state(lambda state: state["typing"] == ["customer"], "the customer writing")

    agent.change_ticket(ticket["id"], assignee_id=agent.me()["id"])
    comment = customer.comment_on(ticket["id"], "Any news?")
    told = page.state(lambda state: "Any news?" in state["comments"], "the comment")
    page.state(lambda state: any("Hooked" in message for message in state["notifications"]), "the notification")
    before = page.state(lambda state: state["unread"] >= 1, "one unread")["unread"]
    assert before >= 1
    assert told["id"]
    agent.ask("POST", "/api/notifications/read-all")
    page.inbox.wait_for(
        lambda message: message["kind"] == "state" and message["state"]["unread"] == 0 and message["state"]["comments"],
        "all read in this tab, too",
    )
    agent.delete_comment(comment["id"])
    page.inbox.wait_for(
        lambda message: (
            message["kind"] == "state" and message["state"]["notifications"] and not message["state"]["comments"]
        ),
        "the comment gone",
    )

    agent.change_ticket(ticket["id"], title="Type now")
    requester.event("typing", lambda it: it["person"]["role"] == "agent", "the agent types")
    agent.change_ticket(ticket["id"], title="Take this")
    page.state(lambda state: "By hand" in state["notifications"] and "By a webhook" in state["tickets"], "a webhook's")


def test_who_is_at_a_ticket_in_a_page(
    client_package: None,
    browser: Callable[..., SeedPage],
    system: System,
    agent: Api,
    customer: Api,
    driver: SocketIoDriver,
    tmp_path: Path,
):
    lay_out(tmp_path, PAGE, system, "watch.js")
    install_into(tmp_path)
    ticket = customer.open_ticket("Seen")
    (tmp_path / "people.js").write_text(
        f"""
        import {{ HelpdeskClient }} from '@helpdesk/realtime';
        import {{ showPeople }} from './watch.js';
        const input = document.createElement('input');
        document.body.append(input);
        const client = new HelpdeskClient({{ token: window.token }}).connect();
        const names = (people) => people.map(({{ role }}) => role);
        showPeople(client, {ticket["id"]!r}, input, (viewing, typing) => {{
          window.report({{ kind: 'state', state: {{ viewing: names(viewing), typing: names(typing) }} }});
          input.dispatchEvent(new Event('input'));
        }});
        """
    )
    page = browser(f"import {str(tmp_path / 'people.js')!r};", token=agent.access)
    requester = driver.open(system.base, auth={"token": customer.access})
    requester.connected()
    requester.join(f"ticket:{ticket['id']}")
    assert requester.ask("viewing", ticket_id=ticket["id"]) == {"ok": True, "viewers": []}
    page.state(lambda state: state["viewing"] == ["customer"], "the customer there")
    requester.event("typing", lambda it: it["person"]["role"] == "agent", "the agent types")
    requester.drop()
    page.state(lambda state: state["viewing"] == [], "the customer gone")
