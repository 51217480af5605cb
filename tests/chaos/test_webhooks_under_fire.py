"""Nothing lost: processes are killed with `kill -9` and Redis is flushed at random moments, under load.

Afterwards every comment that was confirmed, and every one that was written without the confirmation having arrived, has
been delivered at least once, under one webhook-id and with the same bytes; and there are no more duplicates than
deliveries were being sent at the kills.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import requests

from tests.chaos.conftest import Chaos
from tests.chaos.receiver import Receiver
from tests.live.api import Api
from tests.live.inbox import eventually
from tests.live.system import System, installation

pytestmark = pytest.mark.chaos

WRITERS = 3
SETTLED = 120.0
"""Seconds until everything must have arrived: the longest is a lease that must run out (45 s), and a retry after it."""
SETTINGS = {"WEBHOOK_DEADLINE_SECONDS": "5"}


class Fire:
    """A running system, people who write, and ways to hurt it."""

    def __init__(self, system: System, chaos: Chaos) -> None:
        self.system, self.chaos = system, chaos
        self.confirmed: list[str] = []
        self.in_flight = 0
        """How many deliveries were being sent when a sender was killed: each may arrive once more."""
        self.log: list[str] = []
        self.redis_servers: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()

    @contextlib.contextmanager
    def writers(self, ticket_id: str, token: str) -> Iterator[None]:
        threads = [threading.Thread(target=self._write, args=(ticket_id, token, name)) for name in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _write(self, ticket_id: str, token: str, name: int) -> None:
        number = 0
        while not self._over.is_set():
            api = Api(self.system.base, token)
            try:
                while not self._over.is_set():
                    number += 1
                    self.confirmed.append(api.comment_on(ticket_id, f"Writer {name}, comment {number}")["id"])
            except (requests.RequestException, AssertionError):
                self._over.wait(0.2)  # it is down, or came up this moment
            finally:
                api.close()

    def burn(self) -> None:
        ways = [self.kill_everything, self.kill_web, self.kill_worker, self.kill_worker]
        if self.system.environment.get("REDIS_URL"):
            ways += [self.flush_redis, self.cut_redis, self.kill_redis]
        first = self.chaos.random.sample(ways, len(ways))  # each of them at least once
        until = time.monotonic() + self.chaos.seconds
        while first or time.monotonic() < until:
            time.sleep(self.chaos.random.uniform(0.3, 3))
            way = first.pop() if first else self.chaos.random.choice(ways)
            self.log.append(way.__name__)
            way()

    def end(self) -> None:
        for server in self.redis_servers:
            server.kill()
            server.wait()

    def kill_everything(self) -> None:
        self.system.kill()
        self._count_in_flight()
        self.system.start()

    def kill_web(self) -> None:
        self._kill("serving.web")

    def kill_worker(self) -> None:
        if self._kill("serving.worker"):
            self._count_in_flight()

    def flush_redis(self) -> None:
        with self._redis() as server:
            server.flushall()

    def cut_redis(self) -> None:
        """Every connection to it is cut at once, in the middle of whatever it was about."""
        with self._redis() as server:
            for kind in ("normal", "pubsub"):
                server.client_kill_filter(_type=kind, skipme=True)

    def kill_redis(self) -> None:
        with self._redis() as server:
            pid, port = server.info("server")["process_id"], server.info("server")["tcp_port"]
        os.kill(pid, signal.SIGKILL)
        self._over.wait(self.chaos.random.uniform(0, 2))
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self.redis_servers.append(
            subprocess.Popen(command, cwd=self.system.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        eventually(self._redis_answers, "Redis is up again")

    def _redis_answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self._redis() as server:
            return bool(server.ping())
        return False

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.system.environment["REDIS_URL"])

    def _kill(self, module: str) -> bool:
        killed = False
        for pid in self.system.survivors():
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_bytes().decode():
                    os.kill(pid, signal.SIGKILL)
                    killed = True
        return killed

    def _count_in_flight(self) -> None:
        ((count,),) = self.query("SELECT count(*) FROM notifications_webhookdelivery WHERE state = 'sending'")
        self.in_flight += count

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        url = self.system.environment["DATABASE_URL"]
        if url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as database:
                return database.execute(sql).fetchall()
        with psycopg.connect(url) as connection:
            return connection.execute(sql).fetchall()


def undelivered(fire: Fire) -> int:
    ((count,),) = fire.query("SELECT count(*) FROM notifications_webhookdelivery WHERE state <> 'delivered'")
    return count


def test_nothing_is_lost(tmp_path: Path, chaos: Chaos) -> None:
    with Receiver(refuses=7) as receiver, installation(tmp_path) as system, contextlib.ExitStack() as stack:
        system.environment |= SETTINGS
        system.start()
        fire = Fire(system, chaos)
        stack.callback(fire.end)
        customer, agent = (Api(system.base).sign_in(name) for name in ("customer", "agent"))
        customer.set_webhook(receiver.url)
        ticket = customer.open_ticket("Under fire")
        with fire.writers(ticket["id"], agent.access):
            fire.burn()
        # Whatever was killed last comes up again by itself.
        eventually(lambda: _answers(system), "the system is up again", timeout=SETTLED)
        comments = [comment["id"] for comment in Api(system.base, agent.access).comments(ticket["id"])]
        assert len(comments) > 20, fire.log
        assert set(fire.confirmed) <= set(comments)
        deliveries = fire.query(
            "SELECT d.id FROM notifications_webhookdelivery d JOIN notifications_notification n "
            "ON n.id = d.notification_id WHERE n.type = 'comment_on_ticket'"
        )
        assert len(deliveries) == len(comments), "one delivery for each comment, confirmed or not"
        eventually(lambda: undelivered(fire) == 0, f"everything delivered after {fire.log}", timeout=SETTLED)
        ids = {f"msg_{str(id_).replace('-', '')}" for (id_,) in deliveries}
        assert ids == set(receiver.taken)
        assert all(len(bodies) == 1 for bodies in receiver.bodies.values()), "the same bytes each time"
        assert receiver.duplicates <= fire.in_flight, fire.log
        assert receiver.refused, "some had to be tried again"
        print(
            f"{len(ids)} delivered, {receiver.duplicates} twice (at most {fire.in_flight}), {len(receiver.refused)} "
            f"refused at first; {' '.join(fire.log)}"
        )
        assert system.trouble() == ""
        for api in (customer, agent):
            api.close()


def _answers(system: System) -> bool:
    try:
        return requests.get(f"{system.base}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False
