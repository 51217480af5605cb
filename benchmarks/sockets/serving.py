"""Servers in processes of their own, pinned to one core: uvicorn and Daphne with what `driven` serves, and Node."""

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.registry import Skipped
from benchmarks.report import REPOSITORY
from benchmarks.servers import free_port

NODE_FOLDER = REPOSITORY / "benchmarks" / "sockets" / "node"
APPLICATION = "benchmarks.sockets.driven:application"
SERVER_CORE, CLIENT_CORE = 0, 1
START_SECONDS = 60
INSTALL_SECONDS = 120

UVICORN = (
    *("-m", "uvicorn", "--host", "127.0.0.1", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"),
    *("--lifespan", "off", "--log-level", "error", "--backlog", "4096"),
)
DAPHNE = ("-m", "daphne", "--verbosity", "0", "--no-server-name", "-b", "127.0.0.1")


class Server:
    """A server, told what to do by lines. `processor_seconds` and `resident` are its own, threads and all."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def emit(self, count: int = 1) -> None:
        """Have it send so many events to everybody in the room."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"emit {count}\n")
        self.process.stdin.flush()

    def processor_seconds(self) -> float:
        """What all of its threads have used of a processor."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def resident(self) -> int:
        """Bytes of memory it really uses."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def python(server: tuple[str, ...], served: str, environment: Mapping[str, str], core: int | None) -> Iterator[Server]:
    """`served` (see `driven`) by UVICORN or DAPHNE."""
    port = free_port()
    command = [sys.executable, *server, "--port" if "uvicorn" in server else "-p", str(port), APPLICATION]
    with _running(command, {**environment, "SERVED": served}, core) as process:
        _wait_for(process, port)
        yield Server(process, port)


@contextlib.contextmanager
def node(kind: str, core: int | None) -> Iterator[Server]:
    """`kind`: socketio or ws. Raises Skipped where there is no Node, or its packages cannot be had."""
    program = shutil.which("node")
    if program is None:
        raise Skipped("there is no Node")
    _install()
    with _running([program, str(NODE_FOLDER / "server.js"), kind], {}, core) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("port "):
            raise RuntimeError(f"Node did not start: {line!r}")
        yield Server(process, int(line.split()[1]))


def _install() -> None:
    if (NODE_FOLDER / "node_modules" / "socket.io").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Skipped("there is no npm to install what Node needs")
    try:
        subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=NODE_FOLDER,
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Skipped(f"npm could not install what Node needs ({type(error).__name__})") from None


@contextlib.contextmanager
def _running(command: list[str], environment: Mapping[str, str], core: int | None) -> Iterator[subprocess.Popen[str]]:
    # A session of its own: Ctrl-C must reach us first.
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if core is None else functools.partial(os.sched_setaffinity, 0, {core}),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _wait_for(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("a server did not start")
        time.sleep(0.1)
