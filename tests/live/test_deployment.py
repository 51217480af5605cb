"""A deployment of many processes, started with the commands of `deploy/`: the API on WSGI, sockets on two ASGI
processes, a worker and its clock, nginx before them, PostgreSQL and Redis behind them."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from .api import DEMO_PASSWORD, Api
from .conftest import require, unavailable
from .deployment import Process, beat, gunicorn, prepared, uvicorn, worker
from .inbox import eventually
from .receivers import ExpressReceiver
from .sockets import PlainClient, SocketIoDriver
from .system import REPOSITORY, System, free_port
from .test_doors import TRANSPORTS

pytestmark = [pytest.mark.live, pytest.mark.postgresql]

NGINX = REPOSITORY / "deploy/nginx"


@dataclass
class Deployment:
    system: System
    web: Process
    sockets: list[Process]
    stack: ExitStack

    def replace(self, ended: Process) -> None:
        """Start a process of sockets in the place of one that has ended."""
        self.sockets[self.sockets.index(ended)] = self.stack.enter_context(uvicorn(self.system, port=ended.port))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if not os.environ.get("REDIS_URL"):
        unavailable("several processes need Redis (REDIS_URL)")
    with prepared(tmp_path_factory.mktemp("deployment")) as system, ExitStack() as stack:
        system.environment["TRUSTED_PROXIES"] = "1"
        sockets, web = [uvicorn(system, wait=False) for _ in range(2)], gunicorn(system, wait=False)
        for process in (*sockets, web, worker(system), beat(system)):
            stack.enter_context(process)
        yield Deployment(system, web, sockets, stack)


@pytest.fixture(scope="module")
def nginx_program() -> str:
    """Debian keeps it in /usr/sbin, which is not on everybody's path."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or require("nginx")


class Nginx:
    """nginx with what `deploy/nginx` ships, on a port of the loopback and in a folder of its own."""

    def __init__(self, program: str, folder: Path, deployment: Deployment, change: tuple[str, str] = ("", "")) -> None:
        """`change`: a pattern in `upstreams.conf`, and what stands there instead."""
        self.port = free_port()
        self.folder = folder
        folder.mkdir()
        upstreams = (NGINX / "upstreams.conf").read_text()
        for port, process in ((8000, deployment.web), *zip((8001, 8002), deployment.sockets, strict=True)):
            upstreams = upstreams.replace(f"127.0.0.1:{port};", f"127.0.0.1:{process.port} fail_timeout=1s;")
        (folder / "upstreams.conf").write_text(re.sub(*change, upstreams) if change[0] else upstreams)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 512; }}
            http {{
                {paths}
                access_log {folder}/access.log;
                include {NGINX}/maps.conf;
                include {folder}/upstreams.conf;
                server {{
                    listen 127.0.0.1:{self.port};
                    set $helpdesk_scheme $scheme;
                    include {NGINX}/locations.conf;
                }}
            }}
            """
        )
        self.process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
        eventually(self._answers, "nginx answers")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "error.log").read_text()
        try:
            return requests.get(f"{self.base}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def __enter__(self) -> "Nginx":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def nginx(nginx_program: str, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(nginx_program, tmp_path_factory.mktemp("proxy") / "nginx", deployment) as nginx:
        yield nginx


def sign_in(base: str, username: str = "agent") -> Api:
    return Api(base).sign_in(username, DEMO_PASSWORD)


def test_a_change_made_by_wsgi_reaches_sockets_and_webhooks(
    deployment: Deployment, driver: SocketIoDriver, receiver: ExpressReceiver
) -> None:
    api = sign_in(deployment.web.base)
    api.set_webhook(receiver.url("deployment"))
    customer = sign_in(deployment.web.base, "customer")
    clients = [PlainClient(process.base, api.access) for process in deployment.sockets]
    clients += [driver.open(process.base, auth={"token": api.access}) for process in deployment.sockets]
    for client in clients:
        client.join("tickets", "comments")
    ticket = api.open_ticket("From WSGI", requester_id=customer.me()["id"], assignee_id=api.me()["id"])
    comment = customer.ask("POST", f"/api/tickets/{ticket['id']}/comments", {"content": "Hello"}, status=201)
    for client in clients:
        client.event("ticket.update", lambda payload: payload["data"]["id"] == ticket["id"], "the ticket")
        client.event("notification", lambda payload: payload["related_id"] == comment["id"], "the comment")
        client.close()
    receiver.request(
        "deployment", lambda body: body["notification"]["related_id"] == comment["id"], "the comment's webhook"
    )


def test_the_wsgi_process_has_no_sockets(deployment: Deployment) -> None:
    assert requests.get(f"{deployment.web.base}/socket.io/?EIO=4&transport=polling", timeout=10).status_code == 404


def test_everything_through_nginx(deployment: Deployment, nginx: Nginx, driver: SocketIoDriver) -> None:
    agent = sign_in(nginx.base)
    ticket = agent.open_ticket("Through nginx")
    clients = [driver.open(nginx.base, auth={"token": agent.access}, **options) for options in TRANSPORTS.values()]
    clients += [PlainClient(nginx.base, agent.access) for _ in range(4)]
    for client in clients:
        client.join("comments")
    comment = agent.ask("POST", f"/api/tickets/{ticket['id']}/comments", {"content": "Hello"}, status=201)
    for client in clients:
        client.event("comment.update", lambda payload: payload["data"]["id"] == comment["id"], "the comment")
    clients[0].inbox.one(lambda message: message["kind"] == "upgrade", "the upgrade to a WebSocket")
    for client in clients:
        client.close()

    # A large upload, the admin and its style sheet, all from WSGI.
    files = {"file": ("large.txt", b"x" * 15_000_000, "text/plain")}
    attachment = agent.send("POST", f"/api/tickets/{ticket['id']}/attachments", files=files)
    assert attachment.status_code == 201, attachment.text
    page = requests.get(f"{nginx.base}/admin/login/", timeout=20)
    assert page.status_code == 200
    (style,) = re.findall(r'href="(/static/admin/css/base[^"]*\.css)"', page.text)
    assert requests.get(nginx.base + style, timeout=20).status_code == 200
    # What a client claims of itself is overwritten, and the address of a poll is not logged.
    forged = requests.get(f"{nginx.base}/metrics", headers={"X-Forwarded-For": "127.0.0.1"}, timeout=10)
    assert forged.status_code == 404
    assert "socket.io" not in (nginx.folder / "access.log").read_text()


def test_websockets_are_spread_over_the_processes(deployment: Deployment, nginx: Nginx) -> None:
    agent = sign_in(nginx.base)
    engine = nginx.base.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    with ExitStack() as opened:
        for _ in range(4):
            opened.enter_context(connect(engine, proxy=None))
            opened.enter_context(PlainClient(nginx.base, agent.access))
        assert all(process.connections() >= 3 for process in deployment.sockets)


def test_the_control_without_stickiness_long_polling_breaks(
    nginx_program: str, deployment: Deployment, tmp_path: Path
) -> None:
    with Nginx(nginx_program, tmp_path / "nginx", deployment, (r"hash .*consistent;", "")) as unsticky:
        sessions = [_poll_twice(unsticky.base) for _ in range(6)]
    assert 400 in sessions


def test_long_polling_is_sticky(nginx: Nginx) -> None:
    assert [_poll_twice(nginx.base) for _ in range(6)] == [200] * 6


def _poll_twice(base: str) -> int:
    url = f"{base}/socket.io/?EIO=4&transport=polling"
    sid = re.search('"sid":"([^"]*)"', requests.get(url, timeout=10).text)[1]
    return requests.post(f"{url}&sid={sid}", data="40", timeout=10).status_code


def test_a_process_that_goes_away_sends_its_clients_to_the_other(
    deployment: Deployment, nginx: Nginx, driver: SocketIoDriver
) -> None:
    """A rolling restart: one process ends, the other takes everybody and the publishing, and nobody misses a thing."""
    agent = sign_in(nginx.base)
    stock = [
        driver.open(nginx.base, resume=True, auth={"token": agent.access}, **options) for options in TRANSPORTS.values()
    ]
    for client in stock:
        client.connected()
        client.join("tickets")
    before = agent.open_ticket("Before")
    for client in stock:
        client.event("ticket.update", lambda payload: payload["data"]["id"] == before["id"], "the ticket")
    # Long polling and its upgrade keep to one process, by the address: end that one.
    url = f"{nginx.base}/socket.io/?EIO=4&transport=polling"
    sid = re.search('"sid":"([^"]*)"', requests.get(url, timeout=10).text)[1]
    theirs = next(
        process
        for process in deployment.sockets
        if requests.post(f"{process.base}/socket.io/?EIO=4&transport=polling&sid={sid}", data="40", timeout=10).ok
    )
    theirs.ask_to_stop()
    during = agent.open_ticket("During")
    polling = stock[list(TRANSPORTS).index("polling only")]
    polling.connected(2)
    theirs.wait(20)
    after = agent.open_ticket("After")
    for client in (stock[0], polling):
        client.connected(2)
        client.join("tickets")
    for client in stock:
        if client is stock[1] and not client.inbox.all(lambda message: message["kind"] == "disconnect"):
            continue  # it was at the other process all the time
        client.join("tickets")
    for client in stock:
        for ticket in (before, during, after):
            client.event("ticket.update", lambda payload, id_=ticket["id"]: payload["data"]["id"] == id_, "the ticket")
        titles = [payload["data"]["title"] for payload in client.events("ticket.update")]
        assert titles == ["Before", "During", "After"]
        client.close()
    deployment.replace(theirs)
