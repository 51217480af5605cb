"""`serve`, the command behind `make run`: what it refuses, and the real system under its hands."""

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpdesk.accounts.models import User
from helpdesk.management.serving import listening
from helpdesk.management.serving.lock import sole_server
from helpdesk.management.serving.preparation import prepare
from tests.commands.shell import manage
from tickets.models import Ticket

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds until what is not said counts as missing


# --- What it refuses ----------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_said_in_one_line(taken, settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(listening, "PATIENCE", 0)
    ended = manage("serve", "--port", taken)
    assert (ended.code, ended.err) == (1, f"Port {taken} is taken. Try another one: PORT={taken + 1} make run\n")


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 5999), ("no.such.host.invalid", 5999), ("localhost", 99999)])
def test_an_impossible_address_is_said_in_one_line(host, port, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    ended = manage("serve", "--host", host, "--port", port)
    assert ended.code == 1
    assert ended.err.startswith(f"Cannot listen on {host}, port {port}: ")
    assert len(ended.err.splitlines()) == 1


def test_a_second_one_in_the_same_folder_is_refused(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    with sole_server(tmp_path):
        ended = manage("serve", "--port", 5999)
    assert (ended.code, ended.err) == (
        1,
        f"Process {os.getpid()} serves from {tmp_path} already. Stop it, or set another DATA_DIR.\n",
    )


# --- What it prepares ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_empty_database_gets_the_demo_data_and_no_other_one_does():
    assert [line.split(":")[0] for line in prepare()] == ["Demo data"]
    tickets = Ticket.objects.count()
    assert list(prepare()) == []
    assert Ticket.objects.count() == tickets > 0


@pytest.mark.django_db
def test_production_never_gets_demo_data(settings):
    settings.PRODUCTION = True
    assert list(prepare()) == []
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("broker", "state"), [("filesystem://localhost", "pending"), ("redis://somewhere.invalid", "sending")]
)
def test_what_a_killed_worker_was_sending_is_due_at_once_where_no_other_can_be_sending(
    deliver, settings, broker, state
):
    """A broker of several machines may have workers elsewhere: there the lease decides."""
    settings.CELERY_BROKER_URL = broker
    delivery = deliver("sending")
    assert [line.split(":")[0] for line in prepare()] == (["Webhooks"] if state == "pending" else [])
    delivery.refresh_from_db()
    assert delivery.state == state


# --- The real system ----------------------------------------------------------------------------------------------


class Served:
    """`manage.py serve` in a process of its own."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(port)],
            cwd=REPOSITORY,
            env={**os.environ, "DATA_DIR": str(folder), "DATABASE_URL": f"sqlite:///{folder}/db", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.said = ""

    def until(self, pattern: str) -> str:
        """Everything said up to a line that matches."""
        output = self.process.stdout
        while not re.search(pattern, self.said):
            assert select.select([output], [], [], PATIENCE)[0], f"nothing more after:\n{self.said}"
            read = os.read(output.fileno(), 65536)
            assert read, f"it ended without saying {pattern!r}:\n{self.said}"
            self.said += read.decode()
        said, self.said = self.said, ""
        return said

    def rest(self) -> str:
        """What is said until nobody is left who could say something."""
        while read := os.read(self.process.stdout.fileno(), 65536):
            self.said += read.decode()
        return self.said

    def child(self, name: str) -> int:
        """The process id of `web` or `worker`."""
        parents = {int(stat.parent.name): int(stat.read_text().rpartition(")")[2].split()[1]) for stat in _stats()}
        children = [pid for pid, parent in parents.items() if parent == self.process.pid]
        [child] = [pid for pid in children if f"serving.{name}" in Path(f"/proc/{pid}/cmdline").read_text()]
        return child

    def status(self) -> int:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=PATIENCE)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
        connection.close()
        return status


def _stats() -> list[Path]:
    return [entry / "stat" for entry in Path("/proc").iterdir() if entry.name.isdigit() and (entry / "stat").exists()]


@pytest.fixture
def serve(tmp_path) -> Iterator:
    running: list[Served] = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def serve(**environment: str) -> Served:
        running.append(Served(tmp_path, port, **environment))
        return running[-1]

    yield serve
    for served in running:
        served.process.kill()
        served.process.wait()
        served.process.stdout.close()


@pytest.mark.live
def test_from_nothing_to_a_running_system_and_back(serve):
    served = serve()
    said = served.until("Ctrl-C stops everything")
    assert re.search(r"Database: \d+ migrations applied\.\nDemo data: 10 people", said)
    assert f"http://localhost:{served.port}/api/docs" in said
    assert "admin, agent, customer" in said
    assert served.status() == 200

    # A web process that is killed is replaced; who calls meanwhile waits and is answered.
    os.kill(served.child("web"), signal.SIGKILL)
    served.until(r"web ended \(killed by SIGKILL\); starting it again")
    assert served.status() == 200

    served.process.send_signal(signal.SIGINT)
    assert "Traceback" not in served.rest()
    assert served.process.wait(PATIENCE) == 0


@pytest.mark.live
def test_after_a_kill_nobody_is_left_and_it_starts_at_once(serve):
    served = serve()
    served.until("Ctrl-C stops everything")
    served.process.kill()
    served.rest()  # ends when the last child is gone

    again = serve()
    said = again.until("Ctrl-C stops everything")
    assert "Database" not in said
    assert "Demo data" not in said
    assert again.status() == 200


@pytest.mark.live
def test_a_wrong_setting_is_said_in_one_line(serve):
    for environment in (
        {"REDIS_URL": "http://localhost"},
        {"REDIS_URL": "redis://127.0.0.1:1/0"},
        {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"},
    ):
        served = serve(**environment)
        [line] = served.rest().strip().splitlines()
        assert "_URL" in line
        assert served.process.wait(PATIENCE) == 1
