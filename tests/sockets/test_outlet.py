"""Where frames leave us: at once, straight to uvicorn's transport where that is the same, and never out of order."""

import asyncio
import json
from typing import Any

import pytest
import uvicorn
import websockets
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.protocol import State
from websockets.server import ServerProtocol

from comments.models import Comment
from notifications.sockets.hub import hub
from notifications.sockets.outlet import Outlet
from notifications.sockets.socketio_door import server as socketio_server
from notifications.sockets.wire import Frame, plain_form, socketio_form

from .changes import do
from .clients import WAIT, token_of

SIZES = [0, 1, 125, 126, 65_535, 65_536]


@pytest.mark.parametrize("size", SIZES)
def test_a_finished_frame_is_what_the_library_would_write(size):
    text = "ü" + "x" * (size - 2) if size > 1 else "x" * size
    library = ServerProtocol()
    library.state = State.OPEN
    library.send_text(text.encode())
    assert Frame(text).finished == b"".join(library.data_to_send())


def test_the_frames_of_both_doors():
    fields = {"data": '{"a": 1}', "cursor": "7"}
    assert plain_form("ticket.update", fields).message == plain_form("ticket.update", fields)
    packet = socketio_form("ticket.update", fields)
    assert packet == '2["ticket.update",{"data":{"a": 1},"cursor":7}]'
    assert packet.message == "4" + packet


class Transport:
    """What is written to it, as one of uvicorn's protocols would."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_gone = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_gone

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.fixture
async def protocol() -> WebSocketsSansIOProtocol:
    """uvicorn's, as it is after a handshake."""
    config = uvicorn.Config(application_of_nobody, log_config=None)
    config.load()
    made = WebSocketsSansIOProtocol(config, ServerState(), {})
    made.transport = Transport()
    made.handshake_complete = True
    made.conn.state = State.OPEN
    return made


async def application_of_nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody connects")


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The texts that went through ASGI's `send`, which does as before."""
    texts: list[str] = []
    send = WebSocketsSansIOProtocol.send

    async def noted(self: WebSocketsSansIOProtocol, message: Any) -> None:
        texts.append(message.get("text", message["type"]))
        await send(self, message)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "send", noted)
    return texts


FRAME = plain_form("ticket.update", {"cursor": "7"})


async def test_a_frame_goes_straight_to_the_transport_and_is_the_same_either_way(protocol):
    outlet = Outlet(protocol.send)
    assert outlet.send_now(FRAME)
    await outlet.send_text(FRAME)
    straight, through = protocol.transport.written
    assert straight == through


async def test_what_is_made_for_one_client_is_not_finished_for_all(protocol):
    assert not Outlet(protocol.send).send_now("an answer")
    assert protocol.transport.written == []


OTHERWISE = {
    "the client has gone": lambda protocol: setattr(protocol, "disconnected", True),
    "no handshake yet": lambda protocol: setattr(protocol, "handshake_complete", False),
    "closed by us": lambda protocol: setattr(protocol, "close_sent", True),
    "closing": lambda protocol: setattr(protocol.conn, "state", State.CLOSING),
    "compressed": lambda protocol: setattr(protocol.conn, "extensions", ["permessage-deflate"]),
    "transport closing": lambda protocol: setattr(protocol.transport, "is_gone", True),
    "transport full": lambda protocol: protocol.pause_writing(),
}


@pytest.mark.parametrize("how", OTHERWISE)
async def test_where_anything_is_otherwise_the_server_decides(protocol, how):
    outlet = Outlet(protocol.send)
    OTHERWISE[how](protocol)
    assert not outlet.send_now(FRAME)
    assert protocol.transport.written == []


async def test_nothing_overtakes_a_message_that_waits_for_the_transport(protocol):
    outlet = Outlet(protocol.send)
    protocol.pause_writing()
    waiting = asyncio.create_task(outlet.send({"type": "websocket.send", "text": "first"}))
    await asyncio.sleep(0)
    protocol.resume_writing()  # the message goes out with the next step of its task
    assert not outlet.send_now(FRAME)
    await waiting
    assert outlet.send_now(FRAME)


async def test_other_servers_get_asgi_messages():
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    outlet = Outlet(send)
    packet = socketio_form("ticket.update", {"cursor": "7"})
    assert not outlet.send_now(packet)
    await outlet.send_text(packet)
    assert sent == [{"type": "websocket.send", "text": '42["ticket.update",{"cursor":7}]'}]


# --- on a real port --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("compression", "is_straight"), [(None, True), ("deflate", False)])
async def test_events_reach_a_client_straight_unless_it_wants_them_compressed(
    server, asked, customer, ticket, compression, is_straight
):
    token = token_of(customer)
    async with websockets.connect(
        f"{server.replace('http', 'ws')}/ws/", subprotocols=["helpdesk.v1", f"bearer.{token}"], compression=compression
    ) as socket:
        async with asyncio.timeout(WAIT):
            assert json.loads(await socket.recv())["type"] == "ready"
            await socket.send('{"type":"join","id":1,"room":"comments"}')
            assert json.loads(await socket.recv())["ok"] is True
            await do(Comment(ticket=ticket, author=customer, content="Hello").post)
            event = json.loads(await socket.recv())
    assert event["event"] == "comment.update"
    assert any("comment.update" in text for text in asked) is not is_straight


async def test_an_event_does_not_overtake_what_engine_io_has_queued(server, stock, customer):
    client = await stock({"token": token_of(customer)}).open()
    (connection,) = hub._everyone()
    sid = client.client.eio.sid
    for number in range(0, 30, 3):
        await socketio_server.eio.send(sid, f'2["told",{{"number":{number}}}]')
        connection.queue(socketio_form("told", {"number": str(number + 1)}))  # while Engine.IO's own still waits
        await asyncio.sleep(0.01 if number % 2 else 0)
        connection.queue(socketio_form("told", {"number": str(number + 2)}))
    assert [(await client.next_event())[1]["number"] for _ in range(30)] == list(range(30))


async def test_a_client_that_comes_over_from_polling_is_told_straight_too(server, stock, asked, customer, ticket):
    client = await stock({"token": token_of(customer)}, transports=["polling", "websocket"]).open()
    async with asyncio.timeout(WAIT):
        while client.client.transport() != "websocket":
            await asyncio.sleep(0.01)
    await client.ask("join", room="comments")
    await do(Comment(ticket=ticket, author=customer, content="Hello").post)
    await client.event("comment.update")
    assert not any("comment.update" in text for text in asked)


async def test_a_session_does_not_keep_the_token_it_was_opened_with(stock, customer):
    token = token_of(customer)
    client = await stock(headers={"Authorization": f"Bearer {token}"}).open()
    environ = socketio_server.environ[client.client.eio.sid]
    assert token not in repr(environ)
    assert environ["asgi.scope"]["path"] == "/socket.io/"
