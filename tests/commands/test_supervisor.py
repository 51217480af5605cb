"""The supervisor of `serve`, with real processes: small ones, that say when they live and when they end."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpdesk.management.serving import listening, supervisor
from helpdesk.management.serving.lock import AlreadyServing, sole_server

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds until a line that does not come counts as missing

SYSTEM = """
import os, pathlib, sys
from helpdesk.management.serving.supervisor import Program, StartFailed, Supervisor

def say(text):
    print(text, flush=True)

try:
    Supervisor(
        [Program(name, [sys.executable, "-c", code]) for name, code in zip(("one", "two"), sys.argv[2:])],
        environment=os.environ, folder=pathlib.Path.cwd(), is_ready=lambda: sys.argv[1] == "ready",
        on_ready=lambda: say("ready"), say=say,
    ).run()
except StartFailed as error:
    say(f"failed: {error}")
say("over")
"""
CHILD = """
import os, signal, sys
from helpdesk.management.serving import lifeline

def end(*args):
    os.write(1, b"bye\\n")
    os._exit(0)

lifeline.watch()
signal.signal(signal.SIGTERM, end)
os.write(1, b"child %d\\n" % os.getpid())
while True:
    signal.pause()
"""
STUBBORN = CHILD.replace("os._exit(0)", "")


class System:
    """A supervisor in a process of its own, and what it and its children say."""

    def __init__(self, *children: str, ready: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SYSTEM, "ready" if ready else "", *children],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._buffer = b""

    def line(self) -> str:
        """The next line that is said; empty when everyone has ended who could say something."""
        output = self.process.stdout
        while b"\n" not in self._buffer:
            assert select.select([output], [], [], PATIENCE)[0], f"nothing more after {self._buffer!r}"
            read = os.read(output.fileno(), 65536)
            if not read:
                break
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def until(self, beginning: str) -> str:
        while not (line := self.line()).startswith(beginning):
            assert line, f"it ended without saying {beginning!r}"
        return line

    def child(self) -> int:
        """The process id of the next child that says it lives."""
        return int(self.until("child").split()[1])


@pytest.fixture
def start() -> Iterator[type[System]]:
    systems: list[System] = []

    def start(*children: str, ready: bool = True) -> System:
        systems.append(System(*children, ready=ready))
        return systems[-1]

    yield start
    for system in systems:
        system.process.kill()
        system.process.wait()
        system.process.stdout.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # A zombie waits for a parent to take notice; nothing runs any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # it went this moment
        return False


def all_gone(pids: list[int]) -> bool:
    """Whether they end. A process closes its files a moment before it is gone."""
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(is_alive, pids))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_ends_everyone_in_peace(start, how):
    system = start(CHILD, CHILD)
    children = [system.child(), system.child()]
    system.process.send_signal(how)
    assert system.until("Stopping")
    said = sorted([system.line(), system.line(), system.line()])
    assert said == ["bye", "bye", "over"]
    assert system.process.wait(PATIENCE) == 0
    assert all_gone(children)


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_only(start):
    system = start(CHILD)
    child = system.child()
    assert os.getpgid(child) == child != os.getpgid(system.process.pid)


def test_what_dies_is_started_again(start):
    system = start(CHILD)
    first = system.child()
    os.kill(first, signal.SIGKILL)
    assert system.until("one ended") == "one ended (killed by SIGKILL); starting it again in 0.5 s."
    second = system.child()
    assert second != first
    os.kill(second, signal.SIGKILL)
    assert system.until("one ended") == "one ended (killed by SIGKILL); starting it again in 1 s."
    assert is_alive(system.child())


def test_the_others_run_on_meanwhile(start):
    system = start(CHILD, CHILD)
    first, second = system.child(), system.child()
    os.kill(first, signal.SIGKILL)
    system.child()
    assert is_alive(second)


def test_what_dies_before_the_system_is_ready_ends_it(start):
    system = start(CHILD, "import sys; sys.exit(3)", ready=False)
    assert system.until("failed") == (
        "failed: two ended (exit code 3) before the system was ready; what it said stands above."
    )
    assert system.until("over")
    assert system.line() == ""


def test_nobody_outlives_a_killed_supervisor(start):
    system = start(CHILD, CHILD)
    children = [system.child(), system.child()]
    system.process.kill()
    assert system.line() == ""  # the end of the pipe: nobody is left who holds it
    assert all_gone(children)


def test_who_asks_twice_does_not_wait(start):
    system = start(STUBBORN)
    child = system.child()
    system.process.terminate()
    system.until("bye")
    assert is_alive(child)
    system.process.terminate()
    system.until("over")
    assert all_gone([child])


def test_a_delay_doubles_up_to_a_limit_and_starts_anew_after_steady_running(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    child = supervisor._Child(supervisor.Program("web", []))
    child.started_at = now
    assert [child.next_delay() for _death in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    child.started_at = now - supervisor.STEADY
    assert child.next_delay() == 0.5


# --- Ports and the lock -------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other


def test_a_taken_port_is_found(taken, monkeypatch):
    monkeypatch.setattr(listening, "PATIENCE", 0)
    with pytest.raises(listening.PortTaken):
        listening.open_sockets("localhost", taken.getsockname()[1])


def test_a_port_that_is_about_to_be_free_is_waited_for(taken, monkeypatch):
    port = taken.getsockname()[1]
    monkeypatch.setattr(listening.time, "sleep", lambda seconds: taken.close())
    opened = listening.open_sockets("127.0.0.1", port)
    assert [one.getsockname() for one in opened] == [("127.0.0.1", port)]
    for one in opened:
        one.close()


def test_connections_wait_while_nobody_serves():
    [opened] = listening.open_sockets("127.0.0.1", 0)
    with opened, socket.create_connection(opened.getsockname(), timeout=PATIENCE) as client:
        client.sendall(b"hello")
        accepted, _address = opened.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_a_host_that_is_not_ours():
    with pytest.raises(OSError):
        listening.open_sockets("192.0.2.1", 0)


def test_one_server_per_folder(tmp_path):
    with sole_server(tmp_path):
        with pytest.raises(AlreadyServing) as refused, sole_server(tmp_path):
            pass
        assert refused.value.pid == str(os.getpid())
    with sole_server(tmp_path):  # what the first one left behind is in nobody's way
        pass
