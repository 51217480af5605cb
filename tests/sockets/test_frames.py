"""Whatever a client sends: a readable error, nobody else's connection broken, nothing raised in the server."""

import asyncio
import contextlib
import json
import logging
from typing import Any

import aiohttp
import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.sockets import limits
from notifications.sockets.hub import hub
from notifications.sockets.socketio_door import IncomingPacket
from notifications.sockets.socketio_door import server as socketio_server

from .clients import WAIT, token_of

MALFORMED = [
    ("not json", "malformed_json"),
    ("", "malformed_json"),
    ("{", "malformed_json"),
    ("[" * 50_000, "malformed_json"),
    ("[]", "invalid"),
    ("17", "invalid"),
    ("null", "invalid"),
    ('"join"', "invalid"),
    ("{}", "invalid"),
    ('{"type": null}', "invalid"),
    ('{"type": 17, "id": 1}', "invalid"),
    ('{"type": ["join"], "id": 1}', "invalid"),
    ('{"type": "join", "room": "tickets"}', "invalid"),
    ('{"type": "join", "id": null, "room": "tickets"}', "invalid"),
    ('{"type": "join", "id": true, "room": "tickets"}', "invalid"),
    ('{"type": "join", "id": 1.5, "room": "tickets"}', "invalid"),
    ('{"type": "join", "id": {"a": 1}, "room": "tickets"}', "invalid"),
    ('{"type": "join", "id": "\\ud800", "room": "tickets"}', "invalid"),
    (json.dumps({"type": "join", "id": "x" * 65, "room": "tickets"}), "invalid"),
    (json.dumps({"type": "join", "id": 2**63, "room": "tickets"}), "invalid"),
    (json.dumps({"type": "join", "id": 1, "room": "x" * limits.FRAME_BYTES}), "too_large"),
    (b"\x00\x01\x02", "invalid"),
    (b'{"type": "join", "id": 9, "room": "tickets"}', "invalid"),
]


@pytest.mark.parametrize(("frame", "code"), MALFORMED, ids=lambda value: repr(value)[:40])
async def test_a_malformed_frame_is_answered_and_the_connection_goes_on(plain, customer, frame, code):
    client = await plain(token_of(customer)).open()
    await client.send(frame)
    error = await client.frame("error")
    assert set(error) == {"type", "error"}
    assert error["error"]["code"] == code
    assert error["error"]["message"]
    assert (await client.ask("join", room="tickets"))["ok"] is True


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "no.such.operation", "id": 9},
        {"type": "event", "id": 9, "event": "ticket.update", "data": {}},
        {"type": "ack", "id": 9, "ok": True},
        {"type": "join", "id": 9},
    ],
    ids=lambda frame: frame["type"],
)
async def test_a_frame_with_an_id_is_answered_under_it(plain, customer, frame):
    client = await plain(token_of(customer)).open()
    await client.send(frame)
    answer = await client.frame("ack", id=9)
    assert answer["ok"] is False
    assert answer["error"]["message"]


async def test_malformed_frames_are_limited_too(plain, customer, monkeypatch):
    monkeypatch.setattr(limits, "OPERATIONS_AT_ONCE", 2)
    monkeypatch.setattr(limits, "OPERATIONS_PER_SECOND", 0.001)
    client = await plain(token_of(customer)).open()
    for _ in range(5):
        await client.send("garbage")
    closed = await client.closed()
    assert closed.code == 4429


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
operation_names = st.sampled_from(["join", "leave", "typing", "viewing", "notification.read", "auth"]) | st.text()
argument_names = st.sampled_from(["id", "room", "after", "ticket_id", "token", "notification_id"])
objects = st.builds(
    lambda name, arguments: {"type": name, **arguments},
    operation_names,
    st.dictionaries(argument_names, json_values, max_size=5),
)
frames = st.text(max_size=200) | st.binary(max_size=50) | (objects | json_values).map(json.dumps)
fuzzing = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.once
@fuzzing
@given(frames=st.lists(frames, min_size=1, max_size=20))
async def test_no_frame_breaks_a_plain_connection(fuzzed, frames):
    client, other = fuzzed
    for frame in frames:
        await client.send(frame)
    assert (await client.ask("leave", room="tickets"))["ok"] is True
    assert (await other.ask("leave", room="tickets"))["ok"] is True


@pytest.fixture
async def fuzzed(plain, customer, agent, monkeypatch, caplog) -> Any:
    """Two plain connections, the first to be fuzzed; nothing may have been logged as an error in the end."""
    monkeypatch.setattr(limits, "OPERATIONS_AT_ONCE", 1e9)
    yield await plain(token_of(customer)).open(), await plain(token_of(agent)).open()
    records = caplog.get_records("call")  # of the test: each of its phases begins with none
    assert [record for record in records if record.levelno >= logging.ERROR] == []


# --- Socket.IO -------------------------------------------------------------------------------------------------------
SOCKETIO_FRAMES = [
    "",
    "garbage",
    "7",
    "4",
    "49",
    "4garbage",
    "0{}",
    "2" + "x" * 1000,
    "3" + "[" * 50_000,
    "42",
    "42garbage",
    "42{}",
    "42[]",
    "42[17]",
    '42[{"a":1}]',
    '42["connect",{"HTTP_AUTHORIZATION":"x"},{}]',
    '42["disconnect","transport close"]',
    "42" + "[" * 50_000,
    '427["join"]',
    '42/admin,["join",{}]',
    '451-["join",{"_placeholder":true,"num":0}]',
    '459999999999-["join"]',
    "461-[]",
    '44{"message":"no"}',
    "431[]",
    "43",
    "40/admin,",
    "41/admin,",
    "5",
    "6",
    "4\u00b2",
    "42\u00b2",
    b"\x00\x01",
    b"",
]


@pytest.mark.parametrize("frame", SOCKETIO_FRAMES, ids=lambda frame: repr(frame)[:30])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_no_packet_raises_in_the_server(server, stock, customer, agent, caplog, frame, signed_in):
    other = await stock({"token": token_of(agent)}).open()
    async with websockets.connect(f"{server.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket") as socket:
        assert (await socket.recv()).startswith("0")
        if signed_in:
            await socket.send("40" + json.dumps({"token": token_of(customer)}))
            assert (await socket.recv()).startswith("40")
        await socket.send(frame)
        # An acknowledgement, or the end of the connection: either way the frame has been dealt with.
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            await socket.send('4299["leave",{"room":"tickets"}]')
            if signed_in:
                async with asyncio.timeout(WAIT):
                    while not (await socket.recv()).startswith("4399"):
                        pass
    assert (await other.ask("join", room="tickets"))["ok"] is True
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


packets = (
    st.text(max_size=200)
    | st.binary(max_size=50)
    | st.from_regex(r"4[0-7]{1,3}(/[a-z]*,)?[0-9]{0,3}-?[\[{].*", fullmatch=True)
    | st.builds(
        lambda name, arguments, ack: f"42{ack}{json.dumps([name, *arguments])}",
        operation_names,
        st.lists(st.dictionaries(argument_names, json_values, max_size=5) | json_values, max_size=3),
        st.integers(0, 99) | st.just(""),
    )
)


@pytest.mark.once
@fuzzing
@given(packets=st.lists(packets, min_size=1, max_size=20))
async def test_no_packet_breaks_anybody_elses_connection(socketio_bystander, packets):
    url, token, other = socketio_bystander
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):  # its own it may
        async with websockets.connect(f"{url}/socket.io/?EIO=4&transport=websocket") as socket:
            await socket.recv()
            await socket.send("40" + json.dumps({"token": token}))
            await socket.recv()
            for packet in packets:
                await socket.send(packet)
            await socket.send('4299["leave",{"room":"tickets"}]')
            async with asyncio.timeout(WAIT):
                while not (await socket.recv()).startswith("4399"):
                    pass
    assert (await other.ask("leave", room="tickets"))["ok"] is True


@pytest.fixture
async def socketio_bystander(server, stock, customer, agent, monkeypatch, caplog) -> Any:
    """A server, a token to send packets with, and somebody else's connection; nothing may be logged as an error."""
    monkeypatch.setattr(limits, "OPERATIONS_AT_ONCE", 1e9)
    yield server.replace("http", "ws"), token_of(customer), await stock({"token": token_of(agent)}).open()
    records = caplog.get_records("call")
    assert [record for record in records if record.exc_info or record.levelno >= logging.ERROR] == []


async def test_what_is_no_packet_ends_the_connection_with_a_reason(server):
    async with websockets.connect(f"{server.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket") as socket:
        await socket.recv()
        await socket.send("garbage")
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            await socket.recv()
    assert (closed.value.rcvd.code, bool(closed.value.rcvd.reason)) == (4400, True)


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"4", b"4null", b"\xff\xfe", b"4" + b"[" * 50_000, b"1\x1e" * 40, b"d=4"], ids=repr
)
async def test_no_polling_request_raises_in_the_server(server, caplog, body):
    async with aiohttp.ClientSession() as session:
        url = f"{server}/socket.io/?EIO=4&transport=polling"
        async with session.get(url) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        async with session.post(f"{url}&sid={sid}", data=body) as response:
            assert response.status in (200, 400)
        async with session.get(f"{url}&sid=unknown") as response:
            assert response.status == 400
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_packet_that_is_too_large_ends_the_connection(stock, customer, agent):
    other = await stock({"token": token_of(agent)}).open()
    client = await stock({"token": token_of(customer)}).open()
    await client.client.emit("join", {"room": "x" * limits.FRAME_BYTES})
    await client.closed()
    assert (await other.ask("join", room="tickets"))["ok"] is True


@pytest.mark.parametrize("character", ["x", "ü"])  # bytes are counted, not characters
async def test_it_ends_with_a_reason(server, character):
    size = limits.FRAME_BYTES // len(character.encode()) + 1
    async with websockets.connect(f"{server.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket") as socket:
        await socket.recv()
        await socket.send("42" + character * size)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            await socket.recv()
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4400, "A frame has at most 65,536 bytes.")


async def test_who_does_not_sign_in_is_sent_away(server, stock, customer, monkeypatch):
    monkeypatch.setattr(limits, "SIGN_IN_SECONDS", 0.3)
    signed_in = await stock({"token": token_of(customer)}).open()
    async with websockets.connect(f"{server.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket") as socket:
        assert (await socket.recv()).startswith("0")
        async with asyncio.timeout(WAIT):
            await socket.wait_closed()
    assert (await signed_in.ask("join", room="tickets"))["ok"] is True


async def test_who_reads_no_answer_is_ended(server, monkeypatch):
    """Somebody who asks by POST and never polls: each refusal would be kept."""
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 5)
    async with aiohttp.ClientSession() as session:
        url = f"{server}/socket.io/?EIO=4&transport=polling"
        async with session.get(url) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        statuses = []
        for _ in range(10):
            async with session.post(f"{url}&sid={sid}", data=b"40/no-such-namespace,") as response:
                statuses.append(response.status)
    assert statuses[:5] == [200] * 5
    assert statuses[-1] == 400
    assert sid not in socketio_server.eio.sockets or socketio_server.eio.sockets[sid].closed


async def test_who_leaves_while_coming_in_leaves_nothing_behind(server, customer, monkeypatch):
    enter = hub.enter

    async def left_meanwhile(connection, after=None):
        position = await enter(connection, after)
        async with aiohttp.ClientSession() as session, session.post(url, data=b"1") as response:
            assert response.status == 200
        return position

    monkeypatch.setattr(hub, "enter", left_meanwhile)
    async with aiohttp.ClientSession() as session:
        url = f"{server}/socket.io/?EIO=4&transport=polling"
        async with session.get(url) as response:
            url += f"&sid={json.loads((await response.text())[1:])['sid']}"
        async with session.post(url, data=f"40{json.dumps({'token': token_of(customer)})}".encode()):
            pass
    assert hub.open == 0
    assert socketio_server.namespace_handlers["/"]._connections == {}


async def test_bytes_are_refused_with_an_answer(stock, customer):
    client = await stock({"token": token_of(customer)}).open()
    answer = await client.ask("join", room=b"tickets")
    assert (answer["ok"], answer["error"]["code"]) == (False, "unknown_operation")
    assert (await client.ask("join", room="tickets"))["ok"] is True


async def test_a_client_cannot_name_the_handlers_of_the_library(stock, customer):
    client = await stock({"token": token_of(customer)}).open()
    for event in ("connect", "disconnect"):
        answer = await client.ask(event, {"asgi.scope": {"headers": []}}, {"token": "x"})
        assert (answer["ok"], answer["error"]["code"]) == (False, "unknown_operation")
    assert (await client.ask("join", room="tickets"))["ok"] is True


@given(
    encoded=st.text() | st.binary() | json_values | st.from_regex(r"[0-9]{1,3}(/[a-z]*,)?[0-9]*\[.*", fullmatch=True)
)
def test_every_incoming_packet_can_be_handled(encoded):
    packet = IncomingPacket(encoded_packet=encoded)
    assert packet.packet_type in (0, 1, 2, 3)
    assert packet.attachment_count == 0
    if packet.packet_type == 2:
        assert isinstance(packet.data[0], str)
        assert packet.data[0] not in ("connect", "disconnect")
