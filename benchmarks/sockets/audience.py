"""The people whose connections are measured: a database with them, and their tokens."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from django.core.management import call_command
from rest_framework_simplejwt.tokens import AccessToken

from benchmarks.run import Run
from benchmarks.sockets.serving import CLIENT_CORE, SERVER_CORE
from benchmarks.webhooks import load
from helpdesk.accounts.models import Role, User

CLIENTS, STRANGERS = 1_000, 50


@dataclass
class Audience:
    """Tokens of `CLIENTS` agents, who see what happens, and of `STRANGERS` customers in the same room, who must not."""

    url: str
    agents: list[User]
    customers: list[User]
    tokens: list[str]
    strangers: list[str]

    def environment(self, redis_url: str = "") -> dict[str, str]:
        """The variables of a server process on this database."""
        services = {"REDIS_URL": redis_url} if redis_url else {}
        return {"DATABASE_URL": self.url, "LOG_LEVEL": "ERROR", **services}


@contextlib.contextmanager
def audience(run: Run) -> Iterator[Audience]:
    """On PostgreSQL when there is one, else on SQLite; it is this process's database meanwhile."""
    with contextlib.ExitStack() as stack:
        if run.postgresql is None:
            url = f"sqlite:///{run.folder / 'sockets.sqlite3'}"
        else:
            url = run.postgresql.url_of(stack.enter_context(run.postgresql.database("sockets")))
        stack.enter_context(load.on(url))
        call_command("migrate", verbosity=0)
        agents, customers = load.people(CLIENTS), load.people(STRANGERS, Role.CUSTOMER)
        yield Audience(url, agents, customers, [token(user) for user in agents], [token(user) for user in customers])


def token(user: User) -> str:
    """One that the person signs in with."""
    return str(AccessToken.for_user(user))


def pins() -> bool:
    """Whether servers and clients can each have a core of their own."""
    return hasattr(os, "sched_setaffinity") and os.sched_getaffinity(0) >= {SERVER_CORE, CLIENT_CORE}


@contextlib.contextmanager
def on_the_clients_core() -> Iterator[None]:
    """This process, which plays the clients, beside the servers' core."""
    if not pins():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CLIENT_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
