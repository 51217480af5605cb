"""Worker processes as the database knows them: one that is killed leaves its row, one that stops does not."""

import os
import signal
import sqlite3

import psycopg
import pytest

from .inbox import eventually
from .system import System

pytestmark = pytest.mark.live

QUERY = "SELECT name FROM notifications_worker ORDER BY started_at"


def workers_of(system: System) -> list[str]:
    """The names of the workers (host:pid), the oldest first."""
    url = system.environment["DATABASE_URL"]
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            return [name for (name,) in connection.execute(QUERY)]
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
    try:
        return [name for (name,) in connection.execute(QUERY)]
    finally:
        connection.close()


def end(worker: str, how: signal.Signals) -> None:
    os.kill(int(worker.rpartition(":")[2]), how)


def test_the_row_of_a_worker(system: System) -> None:
    """The supervisor starts another one at once, each time."""
    *gone, first = eventually(lambda: workers_of(system), "a worker")
    end(first, signal.SIGKILL)
    second = eventually(lambda: set(workers_of(system)) - {*gone, first}, "another worker").pop()
    end(second, signal.SIGTERM)
    third = eventually(lambda: set(workers_of(system)) - {*gone, first, second}, "a third worker").pop()
    assert workers_of(system) == [*gone, first, third]
