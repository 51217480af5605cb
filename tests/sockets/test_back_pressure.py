"""A client that never reads: what it costs, and that it is got rid of. Under uvicorn here; for Daphne the live tests
have a real one (`tests/live/test_servers.py`)."""

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
import websockets
from channels.db import database_sync_to_async
from daphne.server import Server
from engineio.base_server import BaseServer
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from helpdesk.daphne_repairs import PatientServer, Valve
from notifications.sockets import limits
from notifications.sockets.connection import Connection
from notifications.sockets.hub import hub
from notifications.sockets.socketio_door import server as socketio_server

from .clients import WAIT, token_of

# Not to be compressed away.
FRAME = base64.b64encode(os.urandom(67_500)).decode()


@pytest.fixture
async def pinging_server(application, _hub) -> AsyncIterator[uvicorn.Server]:
    """A server that pings soon, and does not wait long for the answer."""
    config = uvicorn.Config(
        application, port=0, ws="websockets-sansio", lifespan="off", log_config=None, ws_ping_interval=2,
        ws_ping_timeout=0.5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server
    await hub.stop()
    server.should_exit = server.force_exit = True
    await serving


async def fill(server: uvicorn.Server, connection: Connection) -> int:
    """Send frames until the connection is closed; returns the most characters of them that were kept here."""
    (protocol,) = server.server_state.connections
    most = 0
    for _ in range(5_000):
        connection.queue(FRAME)
        if connection.is_closed:
            return most
        most = max(most, connection._outbox_size + protocol.transport.get_write_buffer_size())
        await asyncio.sleep(0)
    raise AssertionError("it was never closed")


async def until(condition) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def deaf_client(server: uvicorn.Server, token: str, door: str = "plain") -> AsyncIterator[Connection]:
    """It signs in and then reads no more; the kernel stops when its buffer is full. Gives the server's side of it."""
    path = "/ws/" if door == "plain" else "/socket.io/?EIO=4&transport=websocket"
    kernel = socket.socket()
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    kernel.connect(("127.0.0.1", server.servers[0].sockets[0].getsockname()[1]))
    kernel.setblocking(False)
    client = await websockets.connect(
        f"ws://127.0.0.1{path}", sock=kernel, proxy=None, ping_interval=None,
        subprotocols=[f"bearer.{token}", "helpdesk.v1"] if door == "plain" else None,
    )  # fmt: skip
    try:
        await client.recv()
        if door == "socketio":
            await client.send("40" + json.dumps({"token": token}))
            await client.recv()
        client.transport.pause_reading()
        ((connection,),) = hub._people.values()
        yield connection
    finally:
        client.transport.abort()
        await client.wait_closed()


@pytest.mark.parametrize("door", ["plain", "socketio"])
async def test_it_costs_its_outbox_and_is_closed_and_freed_though_it_takes_nothing(pinging_server, customer, door):
    token = await database_sync_to_async(token_of)(customer)
    async with deaf_client(pinging_server, token, door) as connection:
        most = await fill(pinging_server, connection)
        # The outbox, the frame that is being sent, and what a transport takes before it asks to wait.
        assert len(FRAME) < most <= limits.OUTBOX_CHARACTERS + 2 * len(FRAME) + 64 * 1024
        (left,) = pinging_server.server_state.connections
        assert left.transport.get_write_buffer_size() > 0
        # Only an abort ends a transport whose buffer nobody takes: the repair of uvicorn.
        await until(lambda: not pinging_server.server_state.connections)


async def test_the_control_without_the_repair_it_stays(pinging_server, customer, monkeypatch):
    closed = []
    # As uvicorn has it: the transport is closed, and waits for the client to take what is buffered.
    monkeypatch.setattr(
        WebSocketsSansIOProtocol, "keepalive_timeout", lambda self: (closed.append(self), self.transport.close())
    )
    async with deaf_client(pinging_server, token_of(customer)) as connection:
        await fill(pinging_server, connection)
        await until(lambda: closed)
        await asyncio.sleep(0.5)
        (left,) = pinging_server.server_state.connections
        assert left.transport.get_write_buffer_size() > 0


async def test_daphne_waits_for_a_client_whose_transport_is_full(monkeypatch):
    written = []

    async def write(self, protocol, message):
        written.append(message)

    class Protocol:
        valve = Valve()

    monkeypatch.setattr(Server, "handle_reply", write)
    server = PatientServer(application=None, endpoints=["unused"])
    Protocol.valve.pauseProducing()
    sending = asyncio.create_task(server.handle_reply(Protocol, {"type": "websocket.send", "text": FRAME}))
    await asyncio.sleep(0.05)
    assert written
    assert not sending.done()
    # A close is never waited for: it ends the wait of a client that takes nothing.
    await server.handle_reply(Protocol, {"type": "websocket.close"})
    Protocol.valve.resumeProducing()
    await asyncio.wait_for(sending, WAIT)
    Protocol.valve.pauseProducing()
    Protocol.valve.stopProducing()
    await asyncio.wait_for(server.handle_reply(Protocol, {"type": "websocket.send", "text": FRAME}), WAIT)


def test_a_frozen_client_is_noticed_within_a_minute():
    """The defaults of each server and of Engine.IO, which the documentation states."""
    uvicorns = uvicorn.Config(None)
    assert uvicorns.ws_ping_interval + uvicorns.ws_ping_timeout == 40
    daphnes = Server(application=None, endpoints=["unused"])
    assert daphnes.ping_interval + daphnes.ping_timeout == 50
    assert isinstance(socketio_server.eio, BaseServer)
    assert socketio_server.eio.ping_interval + socketio_server.eio.ping_timeout == 45
