"""One run of benchmarks: the services it found, its folder, and what its benchmarks share."""

import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import django

from benchmarks.servers import PREFIX, PostgreSQL

T = TypeVar("T")

Resource = Callable[["Run"], AbstractContextManager[T]]


class Run:
    """Owns everything a run makes; leaving it, by whatever way, removes all of it again."""

    def __init__(self, postgresql: PostgreSQL | None, say: Callable[[str], None]) -> None:
        self.postgresql = postgresql
        """None: databases are SQLite files in `folder`."""
        self.say = say
        self._made: dict[Resource[Any], Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.postgresql is not None:
            self._stack.callback(self.postgresql.close)
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="helpdesk-bench-")))
        return self

    def __exit__(self, *exception: Any) -> None:
        # Whoever presses Ctrl-C once more while we clean up would leave databases behind.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._stack.__exit__(*exception)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def use(self, resource: Resource[T]) -> T:
        """What the context manager `resource(run)` gives: entered when it is first asked for, left with the run."""
        if resource not in self._made:
            self._made[resource] = self._stack.enter_context(resource(self))
        return self._made[resource]

    def set_up_django(self) -> None:
        """The product in this very process, on databases of the run: nothing of an installation is read or written."""
        database = (
            f"sqlite:///{self.folder / 'small.sqlite3'}"
            if self.postgresql is None
            else self.postgresql.url_of(f"{PREFIX}small")
        )
        for name in ("REDIS_URL", "CELERY_BROKER_URL", "DATABASE_POOL_SIZE"):
            os.environ.pop(name, None)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "HELPDESK_ENV": "development",
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": database,
            # Throttles stay on, as in production; but a benchmark is one person in a great hurry.
            "THROTTLE_USER": "1000000/min",
            "LOG_LEVEL": "ERROR",
        }
        django.setup()
