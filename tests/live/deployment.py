"""A deployment as `docs/operations.md` describes it: each kind of process on its own, one installation behind them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import requests

from .inbox import eventually
from .system import REPOSITORY, START, System, free_port, installation


class Process:
    """A program of the deployment that runs in its folder; what it says goes into a file."""

    def __init__(
        self, system: System, command: list[str], port: int | None = None, *, wait: bool = True, **environment: str
    ) -> None:
        """It answers on `port`, if it has one, when this returns; with `wait=False` when its context is entered."""
        self.command = command
        self.port = port
        self.log_file = system.folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**system.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            self._wait_for_an_answer()

    def _wait_for_an_answer(self) -> None:
        if self.port is None:
            return
        try:
            eventually(self._answers, f"an answer of {self.command[0]}", timeout=2 * START)
        except BaseException:
            self.stop()
            raise

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()[-4000:]}"
        try:
            return requests.get(f"{self.base}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def connections(self) -> int:
        """How many connections to its port the process has open, whatever has become of their other ends."""
        own = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        # sl, local address:port, remote address:port, state (0A: listening), …, inode
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = f":{self.port:04X}"
        return sum(1 for row in rows if row[1].endswith(ours) and row[3] != "0A" and row[9] in own)

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        self.process.wait(timeout=seconds)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.ask_to_stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self._wait_for_an_answer()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def program(name: str) -> str:
    """The path of a program of this environment."""
    return str(Path(sys.executable).parent / name)


def unit_command(unit: str, port: int = 0) -> list[str]:
    """What a unit of `deploy/systemd` starts, with the programs of this environment and on this port."""
    text = (REPOSITORY / "deploy/systemd" / unit).read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    name, *arguments = line.replace("%i", str(port)).replace("127.0.0.1:8000", f"127.0.0.1:{port}").split()
    return [program(Path(name).name), *arguments]


def uvicorn(system: System, *options: str, port: int = 0, **more: Any) -> Process:
    port = port or free_port()
    return Process(system, [*unit_command("helpdesk-sockets@.service", port), *options], port, **more)


def daphne(system: System, *options: str, port: int = 0, **more: Any) -> Process:
    port = port or free_port()
    command = [program("daphne"), "-b", "127.0.0.1", "-p", str(port), *options, "helpdesk.asgi:application"]
    return Process(system, command, port, **more)


def gunicorn(system: System, **more: Any) -> Process:
    port = free_port()
    return Process(system, unit_command("helpdesk-web.service", port), port, **more)


def worker(system: System) -> Process:
    return Process(system, unit_command("helpdesk-worker.service"))


def beat(system: System) -> Process:
    return Process(system, unit_command("helpdesk-beat.service"))


SERVERS = {"uvicorn": uvicorn, "daphne": daphne}


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[System]:
    """An installation of which nothing runs."""
    with installation(folder) as system:
        try:
            yield system
        finally:
            for pid in system.survivors():  # of a start that failed, say
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
