"""The system as `make run` starts it, in a folder of its own, until the context is left."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import REPOSITORY
from benchmarks.servers import free_port
from helpdesk.management.demo.people import PASSWORD

START_SECONDS, STOP_SECONDS = 90, 20


@dataclass
class Installation:
    port: int

    def person(self, username: str) -> "Person":
        """One of the demo data's people, signed in."""
        person = Person(self.port, "")
        answer = person.ask("POST", "/api/auth/token", {"username": username, "password": PASSWORD})
        return Person(self.port, answer["access"])


class Person:
    """Requests over one kept connection."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token
        self._connection = http.client.HTTPConnection("localhost", port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. RuntimeError for anything but success."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._connection.getresponse()
        content = response.read()
        if not 200 <= response.status < 300:
            raise RuntimeError(f"{method} {path} was answered with {response.status}: {content[:500]!r}")
        return json.loads(content) if content else None


@contextlib.contextmanager
def installation(folder: Path, services: Mapping[str, str]) -> Iterator[Installation]:
    """A new installation with demo data; `services` are the variables that name its database and its Redis."""
    folder.mkdir()
    port = free_port()
    without = ("REDIS_URL", "CELERY_BROKER_URL", "DATABASE_URL", "DATABASE_POOL_SIZE", "DJANGO_SETTINGS_MODULE")
    environment = {name: value for name, value in os.environ.items() if name not in without} | {
        "DATA_DIR": str(folder),
        "PORT": str(port),
        "THROTTLE_USER": "100000/min",
        "ACCESS_TOKEN_SECONDS": "7200",
        # One person writes hundreds of comments to one ticket, as a circle of webhooks would.
        "WEBHOOK_LOOP_LIMIT": "0",
        **services,
    }
    log = folder / "serve.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C must reach us first.
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(port)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, log)
        yield Installation(port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its children notice and end with it
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("localhost", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the system did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
