"""Both servers, each as the documentation starts it, with stock clients: every transport, a restart with clients
connected, clients that freeze, and clients that never read."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from .api import DEMO_PASSWORD, Api
from .deployment import SERVERS, Process, prepared
from .inbox import eventually
from .sockets import PlainClient, SocketIoDriver
from .system import System
from .test_doors import TRANSPORTS

pytestmark = [pytest.mark.live, pytest.mark.once]

# A client that answers no ping is given up after two of these; in a deployment after 40 (uvicorn) or 50 seconds.
SHORT_PINGS = {
    "uvicorn": ["--ws-ping-interval", "2", "--ws-ping-timeout", "4"],
    "daphne": ["--ping-interval", "2", "--ping-timeout", "4"],
}
# An outbox that a test can fill.
SMALL_OUTBOX = {"SOCKET_OUTBOX_FRAMES": "30"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with prepared(tmp_path_factory.mktemp("servers")) as system:
        yield system


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def start(installed: System, kind: str) -> Callable[..., Process]:
    return lambda *options, **more: SERVERS[kind](installed, *options, **more)


def sign_in(base: str, username: str = "agent") -> Api:
    return Api(base).sign_in(username, DEMO_PASSWORD)


def test_a_restart_while_clients_are_connected(
    installed: System, start: Callable[..., Process], driver: SocketIoDriver
) -> None:
    server = start()
    agent = sign_in(server.base)
    stock = [
        driver.open(server.base, resume=True, auth={"token": agent.access}, **options)
        for options in (*TRANSPORTS.values(), *TRANSPORTS.values())
    ]
    for client in stock:
        client.connected()
    stock[0].inbox.one(lambda message: message["kind"] == "upgrade", "the upgrade to a WebSocket")
    plain = [PlainClient(server.base, agent.access) for _ in range(10)]
    for client in (*stock, *plain):
        client.join("tickets")
    before = agent.open_ticket("Before the restart")
    cursors = [
        client.event("ticket.update", lambda payload: payload["data"]["id"] == before["id"], "the ticket")["cursor"]
        for client in (*stock, *plain)
    ]

    asked = time.monotonic()
    server.ask_to_stop()
    waits = []
    for client in plain:
        error = client.frame(lambda frame: frame["type"] == "error", "why it ends")["error"]
        assert error["code"] == "going_away"
        assert error["message"]
        waits.append(error["retry_after"])
        code, reason = client.closed()
        assert (code, bool(reason)) == (4503, True)
        client.close()
    server.wait(15)
    assert time.monotonic() - asked < 12
    assert len(set(waits)) > len(waits) / 2, "they would all come back in the same moment"
    assert all(1 <= wait <= 3 for wait in waits)
    assert "Traceback" not in server.log(), server.log()[-3000:]

    created = installed.manage(
        "shell",
        "-c",
        "from tickets.models import Ticket; from helpdesk.accounts.models import User;"
        "Ticket.objects.create(title='Meanwhile', requester=User.objects.get(username='customer'))",
    )
    assert created.returncode == 0, created.stderr

    with start(port=server.port) as server:
        for client in stock:
            client.connected(2)
        plain = [PlainClient(server.base, agent.access, after=cursor) for cursor in cursors[len(stock) :]]
        for client in (*stock, *plain):
            client.join("tickets")
        after = agent.open_ticket("After the restart")
        for client in (*stock, *plain):
            client.event("ticket.update", lambda payload: payload["data"]["id"] == after["id"], "the last ticket")
            titles = [payload["data"]["title"] for payload in client.events("ticket.update")]
            assert titles[-2:] == ["Meanwhile", "After the restart"]
            assert titles.count("Before the restart") == (1 if client in stock else 0)
            client.close()


def test_a_client_whose_process_is_frozen_is_given_up(start: Callable[..., Process], kind: str) -> None:
    """Its kernel goes on to acknowledge, so the network looks well."""
    program = """
import sys
from websockets.sync.client import connect
base, token = sys.argv[1:]
with (
    connect(base + "/ws/", subprotocols=["helpdesk.v1", "bearer." + token], proxy=None) as plain,
    connect(base + "/socket.io/?EIO=4&transport=websocket", proxy=None) as engine,
):
    plain.recv()
    engine.recv()
    engine.send('40{"token": "%s"}' % token)
    engine.recv()
    print("ready", flush=True)
    plain.recv()
"""
    with start(*SHORT_PINGS[kind]) as server:
        agent = sign_in(server.base)
        agent.close()
        arguments = [server.base.replace("http", "ws", 1), agent.access]
        client = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
        try:
            assert client.stdout.readline() == b"ready\n"
            eventually(lambda: server.connections() == 2, "nothing but the two connections")
            time.sleep(5)
            assert server.connections() == 2, "a client that answers is kept"
            client.send_signal(signal.SIGSTOP)
            eventually(lambda: server.connections() == 0, "both connections given up", timeout=25)
        finally:
            client.kill()
            client.wait()
            client.stdout.close()


def test_under_daphne_a_client_that_never_reads_costs_its_outbox_and_is_closed(installed: System) -> None:
    """Long before it would be for its silence: pings are left as they are. (uvicorn: tests/sockets.)"""
    with SERVERS["daphne"](installed, **SMALL_OUTBOX) as server:
        agent = sign_in(server.base)
        ticket = agent.open_ticket("A long story")
        agent.close()
        deaf = Deaf(server, agent.access)
        healthy = PlainClient(server.base, agent.access)
        healthy.join("comments")
        told = installed.manage(
            "shell",
            "-c",
            "from comments.models import Comment; from helpdesk.accounts.models import User;"
            "author = User.objects.get(username='customer');"
            f"[Comment(ticket_id='{ticket['id']}', author=author, content='x' * 9_000).post() for _ in range(700)]",
        )
        assert told.returncode == 0, told.stderr
        # The healthy one stays: it reads all of it, however long the deaf one takes to be noticed.
        healthy.inbox.wait_for(
            lambda message: message["kind"] == "event" and message["event"] == "comment.update", "comments", count=700
        )
        eventually(lambda: server.connections() == 1, "the deaf one closed", timeout=15)
        healthy.close()
        deaf.close()


class Deaf:
    """A WebSocket that signs in, joins `comments` and never reads again, though its network is well."""

    def __init__(self, server: Process, token: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._until(b"\r\n\r\n")
        self._send(json.dumps({"type": "auth", "token": token}))
        self._until(b'"ready"')
        self._send(json.dumps({"type": "join", "id": 1, "room": "comments"}))
        self._until(b'"ack"')

    def _until(self, text: bytes) -> None:
        self.socket.settimeout(20)
        read = b""
        while text not in read:
            read += self.socket.recv(1)

    def _send(self, text: str) -> None:
        data, mask = text.encode(), os.urandom(4)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(b"\x81" + length + mask + masked)

    def close(self) -> None:
        self.socket.close()
