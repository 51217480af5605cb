"""Below the doors: which application answers which path, and how a transport ends without the client's help."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import websockets
from daphne import ws_protocol
from daphne.ws_protocol import WebSocketProtocol

from comments.models import Comment
from helpdesk.daphne_repairs import ReasoningProtocol
from notifications.sockets import limits
from notifications.sockets.socketio_door import server as socketio_server

from .changes import do, summary, told
from .clients import WAIT, token_of

ENGINE = "/socket.io/?EIO=4"


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


# --- routing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", "/ws", "/ws/more", "/wss/", "/socket.io", "/api/tickets"])
async def test_there_is_no_socket_anywhere_else(plain, customer, path):
    client = await plain(token_of(customer), path=path).connect()
    assert (await client.frame("error"))["error"]["code"] == "not_found"
    closed = await client.closed()
    assert (closed.code, bool(closed.reason)) == (4404, True)


async def test_django_answers_the_rest(server, browser):
    for path in ("/api/tickets", "/ws/", "/nothing", "/socket.io"):
        async with browser.get(server + path) as response:
            assert response.status in (401, 404)
    async with browser.get(f"{server}{ENGINE}&transport=polling") as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("origin", "status"), [(None, 200), ("https://spa.example", 200), ("https://evil.example", 400)]
)
async def test_a_page_of_another_origin_may_poll_where_it_is_allowed(server, browser, settings, origin, status):
    settings.ALLOWED_ORIGINS = ["https://spa.example"]
    headers = {"Origin": origin} if origin else {}
    async with browser.get(f"{server}{ENGINE}&transport=polling", headers=headers) as response:
        assert response.status == status
        allowed = response.headers.get("Access-Control-Allow-Origin")
        assert allowed == (origin if status == 200 else None)


# --- the end of a transport ------------------------------------------------------------------------------------------
async def raw_websocket(url: str, token: str) -> websockets.ClientConnection:
    """A signed-in client that only reads: it takes no notice of Engine.IO's own close packet."""
    socket = await websockets.connect(f"{url.replace('http', 'ws')}{ENGINE}&transport=websocket")
    await socket.recv()
    await socket.send("40" + json.dumps({"token": token}))
    assert (await socket.recv()).startswith("40")
    return socket


async def test_the_websocket_under_socketio_is_really_closed(server, customer):
    """Engine.IO's server leaves it open after its close packet, and the stock client would wait for a ping timeout."""
    async with await raw_websocket(server, token_of(customer, exp=int(time.time()) + 2)) as socket:
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            async with asyncio.timeout(WAIT):
                while True:
                    packet = await socket.recv()
                    assert not packet.startswith("41"), "after a DISCONNECT packet no client comes back"


async def test_a_poll_that_waits_is_ended(server, browser, customer):
    url = f"{server}{ENGINE}&transport=polling"
    async with browser.get(url) as response:
        url += f"&sid={json.loads((await response.text())[1:])['sid']}"
    token = token_of(customer, exp=int(time.time()) + 2)
    async with browser.post(url, data="40" + json.dumps({"token": token})) as response:
        assert response.status == 200
    async with browser.get(url) as response:
        assert (await response.text()).startswith("40")
    async with asyncio.timeout(WAIT), browser.get(url) as response:
        assert await response.text() == "1"  # Engine.IO's close
    async with browser.get(url) as response:
        assert response.status == 400


async def test_a_poller_that_never_polls_again_is_closed_and_holds_nobody_back(
    server, browser, stock, customer, agent, ticket, monkeypatch
):
    monkeypatch.setattr(limits, "ENGINE_FRAMES", 4)
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 4)
    url = f"{server}{ENGINE}&transport=polling"
    async with browser.get(url) as response:
        sid = json.loads((await response.text())[1:])["sid"]
    url += f"&sid={sid}"
    async with browser.post(url, data="40" + json.dumps({"token": token_of(agent)})) as response:
        assert response.status == 200
    async with browser.post(url, data='42["join",{"room":"comments"}]') as response:
        assert response.status == 200
    healthy = await stock({"token": token_of(customer)}).open()
    await healthy.ask("join", room="comments")

    for number in range(20):
        await do(Comment(ticket=ticket, author=customer, content=str(number)).post)
        await healthy.event("comment.update")
    session = socketio_server.eio.sockets[sid]
    async with asyncio.timeout(WAIT):
        while not (session.closed or session.closing):
            await asyncio.sleep(0.01)
    assert session.queue.qsize() < 15
    assert summary(await told(healthy)) == [("notification", "comment_on_ticket")]


# --- Daphne ----------------------------------------------------------------------------------------------------------
class Closing(ReasoningProtocol):
    """A protocol without a connection, that notes how it is closed."""

    def __init__(self, state: int) -> None:
        self.state = state
        self.closed: list[tuple] = []

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        self.closed.append((code, reason))

    def serverReject(self) -> None:
        self.closed.append(("rejected",))


@pytest.mark.parametrize(
    ("state", "message", "closed"),
    [
        ("OPEN", {"code": 4401, "reason": "Please sign in"}, (4401, "Please sign in")),
        ("OPEN", {"code": 4401}, (4401, None)),
        ("OPEN", {}, (1000, None)),
        ("CONNECTING", {"code": 4401, "reason": "Please sign in"}, ("rejected",)),
    ],
)
def test_daphne_passes_the_reason_of_a_close_on(application, state, message, closed):
    protocol = Closing(getattr(WebSocketProtocol, f"STATE_{state}"))
    protocol.handle_reply({"type": "websocket.close", **message})
    assert protocol.closed == [closed]
    assert ws_protocol.WebSocketFactory.protocol is ReasoningProtocol
