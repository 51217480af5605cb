"""The database and Redis servers a run may use. Only those of this machine, and only with databases of our own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

DEFAULT_PORT = 5432
PREFIX = "helpdesk_bench_"
"""Databases with such names are ours: a run removes what an earlier one that was killed has left."""
LOCK_KEY = 0x62656E63  # "benc"; one run at a time, since two would measure each other


class Unusable(Exception):
    """A server that was asked for does not do; the text says why."""


class PostgreSQL:
    """A server on which databases may be made. `url` names any database of it to connect to first."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._administration = psycopg.connect(url, autocommit=True, connect_timeout=3)
        except psycopg.OperationalError as error:
            raise Unusable(str(error).strip().splitlines()[0]) from None
        may, locked, version = self._administration.execute(
            "SELECT rolcreatedb OR rolsuper, pg_try_advisory_lock(%s), current_setting('server_version') "
            "FROM pg_roles WHERE rolname = current_user",
            [LOCK_KEY],
        ).fetchone()
        if not may:
            raise Unusable("its user may not create databases")
        if not locked:
            raise Unusable("another run of the benchmarks is using it")
        self.version = version.split()[0]

    @contextlib.contextmanager
    def database(self, purpose: str, template: str = "template1") -> Iterator[str]:
        """A database for as long as the context lasts, a copy of `template` (its name); gives its name."""
        name = PREFIX + purpose
        self._drop(name)
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield name
        finally:
            self._drop(name)

    def url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def close(self) -> None:
        self._administration.close()

    def _drop(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: str, *names: str) -> None:
        self._administration.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def find_postgresql() -> tuple[PostgreSQL | None, str]:
    """The server of DATABASE_URL, else the one of this machine; or None. With a line that says which and why.

    Raises Unusable when DATABASE_URL names a PostgreSQL that does not do: whoever set it wants no other.
    """
    asked = os.environ.get("DATABASE_URL", "").strip()
    if asked and not asked.startswith(("postgres://", "postgresql://")):
        return None, "SQLite, as DATABASE_URL says"
    if asked:
        if urlsplit(asked).hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise Unusable("benchmarks use servers of this machine only, and DATABASE_URL names another host")
        try:
            server = PostgreSQL(asked)
        except Unusable as error:
            raise Unusable(f"the PostgreSQL of DATABASE_URL: {error}") from None
        return server, f"PostgreSQL {server.version}"
    reason = ""
    for user in [os.environ["PGUSER"]] if os.environ.get("PGUSER") else ["postgres", getpass.getuser()]:
        try:
            server = PostgreSQL(f"postgres://{quote(user)}@127.0.0.1:{DEFAULT_PORT}/postgres")
        except Unusable as error:
            reason = reason or str(error)
        else:
            return server, f"PostgreSQL {server.version}"
    return None, f"SQLite, since there is no PostgreSQL to use on 127.0.0.1:{DEFAULT_PORT} ({reason})"


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str | None]:
    """A Redis of our own for as long as the context lasts; gives its URL, or None where none is installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    # A session of its own: Ctrl-C must reach us first.
    process = subprocess.Popen(
        [program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
