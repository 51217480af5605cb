"""What webhooks are measured on: a database, a receiver, and senders in processes of their own, all on one core."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from django.core.management import call_command
from django.db.models import Max
from django.utils import timezone

from benchmarks.registry import Skipped
from benchmarks.report import REPOSITORY
from benchmarks.run import Run
from benchmarks.webhooks import load
from notifications.models import DeliveryState, WebhookDelivery

CORE = 0
LIMIT_SECONDS = 180


@dataclass
class Bench:
    """A database, a receiver, and workers on them."""

    url: str
    receiver_port: int
    pins: bool

    @property
    def hook(self) -> str:
        return f"http://127.0.0.1:{self.receiver_port}/"

    def worker(self, *how: str, **environment: str) -> "Worker":
        return Worker([sys.executable, "-m", "benchmarks.webhooks.worker", *how], self, environment)

    def engine_seconds(self) -> float:
        """How long the engine needs for what is due."""
        worker = self.worker("engine")
        began = timezone.now()
        worker.go()
        worker.finish()
        latest = WebhookDelivery.objects.filter(delivered_at__gte=began).aggregate(Max("delivered_at"))
        if WebhookDelivery.objects.filter(state=DeliveryState.PENDING).exists():
            raise RuntimeError("the engine became idle and left deliveries behind")
        return (latest["delivered_at__max"] - began).total_seconds()


class Worker:
    """A sender in a process of its own, pinned together with its database connections."""

    def __init__(self, command: list[str], bench: Bench, environment: dict[str, str]) -> None:
        self._bench = bench
        environment = {
            **os.environ,
            **environment,
            "DATABASE_URL": bench.url,
            "DJANGO_SETTINGS_MODULE": "helpdesk.settings",
            "LOG_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=pin if bench.pins else None,
        )
        self.expect("ready")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self) -> float:
        """Seconds, as the worker measured them."""
        text = self.expect("seconds")
        self.process.wait(LIMIT_SECONDS)
        self._close()
        return float(text.split()[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def expect(self, word: str) -> str:
        """The next line, which begins with this word."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(word):
            raise RuntimeError(f"the worker said {line!r} instead of {word}")
        return line

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def pin() -> None:
    os.sched_setaffinity(0, {CORE})


@contextlib.contextmanager
def _pinned_backends(url: str, pins: bool) -> Iterator[None]:
    """Keep the database's processes that serve this database on the same core, as soon as they appear."""
    if not pins:
        yield
        return
    done = threading.Event()
    watcher = psycopg.connect(url, autocommit=True)

    def watch() -> None:
        pinned: set[int] = set()
        while not done.wait(0.2):
            for (pid,) in watcher.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall():
                if pid not in pinned:
                    pinned.add(pid)
                    with contextlib.suppress(OSError):
                        os.sched_setaffinity(pid, {CORE})

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        watcher.close()


@contextlib.contextmanager
def set_up(run: Run, purpose: str) -> Iterator[Bench]:
    """An empty database of the present schema, and a receiver."""
    if run.postgresql is None:
        raise Skipped("there is no PostgreSQL to use")
    pins = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
    with run.postgresql.database(purpose) as name:
        url = run.postgresql.url_of(name)
        receiver = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.webhooks.receiver"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=pin if pins else None,
        )
        assert receiver.stdout is not None
        try:
            with load.on(url):
                call_command("migrate", verbosity=0)
                with _pinned_backends(url, pins):
                    yield Bench(url, int(receiver.stdout.readline()), pins)
        finally:
            receiver.kill()
            receiver.wait()
            receiver.stdout.close()
