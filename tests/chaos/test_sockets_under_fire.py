"""Nothing missed, nothing twice, nothing too much: clients are cut off and frozen, servers are killed and frozen, Redis
is flushed and cut, and rights change, while several processes write.

Afterwards the state that each client built from events is what the API shows that person. Whoever kept their role was
shown every event that they could see exactly once and in order, and none that they could not. A client that comes back
without its cursor misses some: the same checks notice it.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
import requests

from notifications.models.event import Scope
from tests.chaos.conftest import Chaos
from tests.chaos.watchers import Network, PlainLine, Shown, SocketIOLine, Watcher
from tests.live.inbox import eventually
from tests.live.system import REPOSITORY, System, free_port, installation

pytestmark = pytest.mark.chaos

SETTLED = 90.0
"""Seconds until every client must be where the stream is."""
PAUSE = 0.06
"""Seconds between two changes of a writer: a client may be away for as long as a publisher can be frozen, and must not
miss more than is replayed."""
PEOPLE = {"admin": "admin", "agent": "agent", "customer": "customer", "other": "customer", "shifting": "agent"}
SHIFTING = "shifting"

PREPARE = """
import json, sys, django
django.setup()
from rest_framework_simplejwt.tokens import AccessToken
from helpdesk.accounts.models import User
people = {}
for name, role in json.load(sys.stdin).items():
    user = User.objects.create_user(f"fire-{name}", role=role)
    people[name] = [str(user.pk), str(AccessToken.for_user(user))]
print(json.dumps(people))
"""


class Servers:
    """The whole system as `make run` starts it, and on PostgreSQL and Redis two socket servers more."""

    def __init__(self, system: System, chaos: Chaos) -> None:
        self.system, self.chaos = system, chaos
        self.more: dict[int, subprocess.Popen[bytes]] = {}
        self.log: list[str] = []
        self.is_one_of_many = (
            bool(system.environment.get("REDIS_URL")) and "postgres" in system.environment["DATABASE_URL"]
        )

    def start(self) -> None:
        self.system.start()
        if self.is_one_of_many:
            for port in self.more or (free_port(), free_port()):
                self._start_one_more(port)

    def ports(self) -> list[int]:
        return [self.system.port, *self.more]

    def _start_one_more(self, port: int) -> None:
        words = ["-m", "uvicorn", "helpdesk.asgi:application", "--port", str(port), "--log-level", "warning"]
        with self.system.log_file.open("ab") as log:
            self.more[port] = subprocess.Popen(
                [sys.executable, *words, "--ws", "websockets-sansio"],
                cwd=REPOSITORY,
                env=self.system.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def burn(self, seconds: float) -> None:
        ways = [self.kill_web, self.kill_web, self.freeze, self.kill_everything]
        if self.more:
            ways += [self.kill_one_more, self.kill_one_more]
        if self.system.environment.get("REDIS_URL"):
            ways += [self.flush_redis, self.cut_redis, self.cut_redis]
        first = self.chaos.random.sample([*dict.fromkeys(ways)], len({*ways}))  # each of them at least once
        until = time.monotonic() + seconds
        while first or time.monotonic() < until:
            time.sleep(self.chaos.random.uniform(0.5, 4))
            way = first.pop() if first else self.chaos.random.choice(ways)
            self.log.append(way.__name__)
            way()

    def kill_everything(self) -> None:
        self.system.kill()
        for process in self.more.values():
            process.wait()
        self.start()

    def kill_web(self) -> None:
        for pid in self._web():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_one_more(self) -> None:
        port = self.chaos.random.choice(list(self.more))
        self.more[port].kill()
        self.more[port].wait()
        self._start_one_more(port)

    def freeze(self) -> None:
        """Any server, for a moment or for so long that its publisher is replaced."""
        pids = [*self._web(), *(process.pid for process in self.more.values())]
        if not pids:
            return
        pid = self.chaos.random.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(self.chaos.random.choice([0.5, 2, 13 if self.more else 3]))
            finally:
                os.kill(pid, signal.SIGCONT)

    def flush_redis(self) -> None:
        with self._redis() as server:
            server.flushdb()

    def cut_redis(self) -> None:
        """Every connection to our database of it is cut at once."""
        with self._redis() as server:
            database = str(server.get_connection_kwargs().get("db", 0))
            own = str(server.client_id())
            for it in server.client_list():
                if it["db"] == database and it["id"] != own:
                    server.client_kill_filter(_id=it["id"])

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.system.environment["REDIS_URL"])

    def _web(self) -> list[int]:
        found = []
        for pid in self.system.survivors():
            with contextlib.suppress(OSError):
                if "serving.web" in Path(f"/proc/{pid}/cmdline").read_bytes().decode():
                    found.append(pid)
        return found

    def stop_more(self) -> None:
        for process in self.more.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def writers(system: System, chaos: Chaos, count: int) -> Any:
    """Processes that write until the block ends; yields a list that then has how many changes each made."""
    program = [sys.executable, str(REPOSITORY / "tests/chaos/writer.py")]
    environment = {**system.environment, "DJANGO_SETTINGS_MODULE": "helpdesk.settings", "PYTHONPATH": str(REPOSITORY)}
    del environment["LIVE_TEST_MARK"]  # they are not of the system that is killed
    running = [
        subprocess.Popen(
            [*program, str(chaos.seed + number), str(PAUSE)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    counts: list[int] = []
    try:
        yield counts
    finally:
        for process in running:
            output, errors = process.communicate("", timeout=60)
            assert process.returncode == 0, errors[-3000:]
            counts.append(int(output.split()[-1]))


@contextlib.asynccontextmanager
async def watching(servers: Servers, people: dict[str, list[str]], random_: Any) -> AsyncIterator[list[Watcher]]:
    """Everybody at both doors, and the control. A watcher that meets what it does not know ends the block."""
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        watchers, tasks = [], []
        for name, line, replays in [
            *((name, line, True) for name in PEOPLE for line in (PlainLine, SocketIOLine)),
            ("agent", PlainLine, False),
        ]:
            network = Network(servers.ports, random_)
            await network.open()
            stack.push_async_callback(network.close)
            watchers.append(Watcher(name, people[name][1], network, line, random_, replays))
            tasks.append(group.create_task(watchers[-1].run()))
        yield watchers
        for task in tasks:
            task.cancel()


async def disturb(watchers: list[Watcher], random_: Any) -> None:
    while True:
        await asyncio.sleep(random_.uniform(0.1, 1))
        network = random_.choice(watchers).network
        if random_.random() < 0.7:
            network.cut()
        else:
            network.freeze()
            asyncio.get_running_loop().call_later(random_.uniform(0.5, 5), network.thaw)


async def reached(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + SETTLED
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.2)


@dataclass
class Row:
    """An event of the log."""

    position: int
    entity: str
    action: str
    entity_id: UUID
    ticket_id: UUID | None
    scope: Scope
    previous: Scope
    recipients: set[UUID]

    @property
    def name(self) -> str | None:
        names = {"ticket": "ticket.update", "comment": "comment.update", "kb_article": "kb.update"}
        if self.entity == "user" and self.action != "announced":
            return "user.update"
        return names.get(self.entity) if self.action in ("created", "updated", "deleted", "moved") else None


def query(system: System, sql: str) -> list[tuple[Any, ...]]:
    url = system.environment["DATABASE_URL"]
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as database:
            return database.execute(sql).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()


def log_of(system: System) -> list[Row]:
    def as_id(value: Any) -> UUID | None:
        return UUID(str(value)) if value else None

    told: dict[UUID | None, set[Any]] = {}
    for event_id, recipient_id in query(system, "SELECT event_id, recipient_id FROM notifications_notification"):
        told.setdefault(as_id(event_id), set()).add(as_id(recipient_id))
    rows = query(
        system,
        "SELECT id, position, entity, action, entity_id, ticket_id, visibility, person_id, previous_visibility,"
        " previous_person_id FROM notifications_event ORDER BY position",
    )
    found = []
    for id_, position, entity, action, entity_id, ticket_id, seen, person, saw, before in rows:
        scope = Scope(seen, as_id(person))
        previous = Scope(saw, as_id(before)) if saw else scope
        recipients = told.get(as_id(id_), set())
        found.append(Row(position, entity, action, as_id(entity_id), as_id(ticket_id), scope, previous, recipients))
    return found


def complaints(watcher: Watcher, person: UUID, role: str, log: list[Row]) -> list[str]:
    """What is wrong with what somebody whose role never changed was shown."""
    found = [*watcher.trouble, *(f"resync: {reason}" for reason in watcher.resyncs)]
    rows = {row.position: row for row in log}
    for name, cursor in watcher.shown:
        row = rows[cursor]
        sees, saw = row.scope.admits(person, role), row.previous.admits(person, role)
        if not (sees or (saw and watcher.actions[name, cursor] == "removed")):
            found.append(f"{name} {cursor} was not for them")
    # From the end: what came after the subject went out of sight for the last time must have been shown.
    shown, hidden_since = set(watcher.shown), {}
    for row in reversed(log):
        if row.position <= watcher.started_at:
            break
        sees = row.scope.admits(person, role)
        if not sees:
            hidden_since[row.entity_id] = row.position
        if sees and not {row.entity_id, row.ticket_id} & hidden_since.keys():
            tells = row.action != "moved" or not row.previous.admits(person, role)
            wanted: list[Shown] = [(row.name, row.position)] if row.name and tells else []
            wanted += [("notification", row.position)] if person in row.recipients else []
            found += [f"{name} {cursor} was missed" for name, cursor in wanted if (name, cursor) not in shown]
    return found


async def burn(system: System, chaos: Chaos) -> None:
    servers = Servers(system, chaos)
    servers.start()
    try:
        program = [sys.executable, "-c", PREPARE]
        output = subprocess.run(
            program,
            input=json.dumps(PEOPLE),
            env={**system.environment, "DJANGO_SETTINGS_MODULE": "helpdesk.settings"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        people = json.loads(output)
        async with watching(servers, people, chaos.random) as watchers:
            await reached(lambda: all(watcher.is_live for watcher in watchers), lambda: "everyone is there")
            with writers(system, chaos, 3 if servers.is_one_of_many else 2) as counts:
                disturbing = asyncio.create_task(disturb(watchers, chaos.random))
                await asyncio.to_thread(servers.burn, chaos.seconds)
                disturbing.cancel()
                for watcher in watchers:  # nobody has been there all the time
                    watcher.network.cut()
                await asyncio.sleep(3)
            await asyncio.to_thread(eventually, lambda: _answers(system), "the system is up again", timeout=SETTLED)
            for watcher in watchers:
                watcher.network.thaw()
            await _judge(system, people, watchers)
        print(f"{sum(counts)} changes; {sum(watcher.connections for watcher in watchers)} connections")
        print(" ".join(servers.log))
        assert sum(counts) > 100
        assert system.trouble() == ""
    finally:
        servers.stop_more()


async def _judge(system: System, people: dict[str, list[str]], watchers: list[Watcher]) -> None:
    unsent = "SELECT count(*) FROM notifications_event WHERE position IS NULL OR expansion_pending"
    await reached(lambda: query(system, unsent) == [(0,)], lambda: "every event has its place")
    following = [watcher for watcher in watchers if watcher.replays]
    fresh = {watcher.name: await watcher.fresh() for watcher in following}

    def differences() -> str:
        found = []
        for watcher in following:
            what = difference(watcher.state, fresh[watcher.name]) or ("" if watcher.is_live else "not connected")
            found += [f"{watcher.name} {watcher.line.__name__}: {what}"] if what else []
        return "\n".join(found)

    def explained() -> str:
        found = differences()
        about = {UUID(id_) for id_ in re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", found)}
        rows = log_of(system)
        about |= {row.ticket_id for row in rows if row.entity_id in about and row.ticket_id}
        return "\n".join([found, *(str(row) for row in rows if {row.entity_id, row.ticket_id} & about)])

    await reached(lambda: not differences(), explained)
    await asyncio.sleep(2)  # nothing more may come
    log = log_of(system)
    assert [row.position for row in log] == list(range(1, len(log) + 1))
    for watcher in following:
        if watcher.name == SHIFTING:
            assert set(watcher.resyncs) <= {"role_changed"}, watcher.resyncs
            assert watcher.trouble == []
        else:
            found = complaints(watcher, UUID(people[watcher.name][0]), PEOPLE[watcher.name], log)
            assert found == [], (watcher.name, watcher.line.__name__, found[:20])
            print(f"{watcher.name}, {watcher.line.__name__}: {len(watcher.shown)} events, {watcher.connections} times")
    [control] = [watcher for watcher in watchers if not watcher.replays]
    found = complaints(control, UUID(people[control.name][0]), PEOPLE[control.name], log)
    assert any("was missed" in complaint for complaint in found), "the control misses nothing: nothing was shown here"


def difference(state: dict[Any, Any], fresh: dict[Any, Any]) -> str:
    other = [key for key in state.keys() & fresh.keys() if _own(state[key]) != _own(fresh[key])]
    if state.keys() == fresh.keys() and not other:
        return ""
    return (
        f"too many {list(state.keys() - fresh.keys())[:3]}, too few {list(fresh.keys() - state.keys())[:3]}, "
        f"other {[(state[key], fresh[key]) for key in other[:1]]}"
    )


def _own(entity: dict[str, Any]) -> dict[str, Any]:
    """Without the people in it: they are as they were when the thing itself was last changed."""
    return {name: value for name, value in entity.items() if not isinstance(value, dict)}


def _answers(system: System) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{system.base}/readyz", timeout=5).status_code == 200
    return False


def test_nothing_is_missed_nothing_comes_twice_and_nothing_is_too_much(tmp_path: Path, chaos: Chaos) -> None:
    with installation(tmp_path) as system:
        asyncio.run(burn(system, chaos))
