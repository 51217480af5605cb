"""One `serve` per data folder: two would share one broker folder, and their sockets would miss each other's events."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyServing(Exception):
    """Another process serves from this folder; `pid` is its id, as far as it is known."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


@contextmanager
def sole_server(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The kernel lets go of it when this process ends, so a stale one cannot be."""
    with (folder / "serve.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyServing(file.read().strip()) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
