"""The product as a person starts it: `manage.py serve`, watched from outside."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import requests

from .inbox import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
START = 60.0
"""Seconds from start to ready: migrations, demo data, web server and worker, on two busy cores."""

SETTINGS = {
    # Known, so that the tests can sign tokens that are wrong in one way each.
    "SECRET_KEY": "live-tests-sign-tokens-that-expired-with-this-very-key",
    # The people sign in once, however long a busy machine takes.
    "ACCESS_TOKEN_SECONDS": "7200",
    # The suite is one address and a handful of people in a great hurry.
    "THROTTLE_ANONYMOUS": "100000/min",
    "THROTTLE_USER": "100000/min",
    "THROTTLE_SIGN_IN": "100000/min",
    "THROTTLE_REGISTER": "100000/min",
    "THROTTLE_WEBHOOK_TEST": "100000/min",
    # It writes hundreds of comments to one ticket, as a circle of webhooks would.
    "WEBHOOK_LOOP_LIMIT": "0",
}


def free_port(preferred: int = 0) -> int:
    """`preferred` when nobody listens there, else any free port of the loopback."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
    raise AssertionError("no free port")


class System:
    """One installation: a database, a data folder and a port; started, stopped and killed any number of times."""

    def __init__(self, folder: Path, environment: dict[str, str], port: int) -> None:
        self.folder = folder
        self.port = port
        self.log_file = folder / "serve.log"
        # Marks every process of this installation, so that one which left the group is found all the same.
        self.mark = uuid.uuid4().hex
        # The suite's own settings must not leak into the product under test.
        inherited = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
        self.environment = {
            **inherited,
            **SETTINGS,
            **environment,
            "DATA_DIR": str(folder),
            "PORT": str(port),
            "LIVE_TEST_MARK": self.mark,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        """The address the seed's snippets speak of."""
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(self.port)],
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._ready, f"ready on {self.base}; its log ends:\n{self.log()[-4000:]}", timeout=START)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}; its log ends:\n{self.log()[-4000:]}")
        try:
            return requests.get(f"{self.base}/readyz", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask the one command to stop, as Ctrl-C or a service manager does, and give its exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=START)

    def kill(self) -> None:
        """`kill -9` everything at once: no handler runs, nothing is flushed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in self.survivors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=START)
        eventually(lambda: not self.survivors(), "every process of the installation gone")

    def survivors(self) -> list[int]:
        """Process ids that carry this installation's mark."""
        mark = f"LIVE_TEST_MARK={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A management command beside the running system: another process, the same database."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def trouble(self) -> str:
        """The first traceback in the log, with what led to it and what followed; empty when there is none."""
        log = self.log()
        at = log.find("Traceback")
        return "" if at < 0 else log[max(0, at - 1_000) :][:6_000]


@contextlib.contextmanager
def installation(folder: Path, preferred_port: int = 0, *, from_nothing: bool = False) -> Iterator[System]:
    """A fresh installation, not yet started: SQLite unless `DATABASE_URL` names PostgreSQL, Redis where `REDIS_URL` is.

    Every installation has a database, and where it can a Redis, to itself: several run at a time. It has its tables and
    the demo data, unless it is to begin `from_nothing`.
    """
    with contextlib.ExitStack() as stack:
        environment = {"DATABASE_URL": stack.enter_context(_database(folder, from_nothing))}
        if os.environ.get("REDIS_URL"):
            environment["REDIS_URL"] = stack.enter_context(_redis(folder))
        system = System(folder, environment, free_port(preferred_port))
        try:
            yield system
        finally:
            if system.process:
                system.kill()


_SQLITE_FILE = "live.sqlite3"


@contextlib.contextmanager
def _database(folder: Path, from_nothing: bool) -> Iterator[str]:
    template = None if from_nothing else _template()
    if template is not None:
        shutil.copytree(template.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("broker"))
    server = os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        yield f"sqlite:///{folder / _SQLITE_FILE}"
        return
    name = _create_database(server, template and template.database)
    try:
        address, _, query = server.partition("?")
        yield f"{address.rsplit('/', 1)[0]}/{name}{'?' + query if query else ''}"
    finally:
        _drop_database(server, name)


@dataclass(frozen=True)
class _Template:
    """What `serve` makes of an empty folder and database, to be copied: that takes a moment, making it ten seconds."""

    folder: Path
    database: str | None  # its name, on PostgreSQL


@functools.cache
def _template() -> _Template:
    """Made once for each worker of the suite."""
    made = contextlib.ExitStack()
    atexit.register(made.close)
    folder = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="helpdesk-live-")))
    url = made.enter_context(_database(folder, from_nothing=True))
    system = System(folder, {"DATABASE_URL": url}, free_port())
    prepare = "from helpdesk.management.serving.preparation import prepare; list(prepare())"
    done = system.manage("shell", "--no-imports", "-c", prepare)
    assert done.returncode == 0, done.stderr
    name = url.partition("?")[0].rsplit("/", 1)[1]
    return _Template(folder, name if url.startswith("postgres") else None)


def _create_database(server: str, template: str | None) -> str:
    name = f"live_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
    return name


def _drop_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    if not shutil.which("redis-server"):
        yield os.environ["REDIS_URL"]
        return
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
