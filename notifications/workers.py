"""Which workers there are: each writes a row every few seconds, so that everybody else can see that it lives.

A worker that stops as it should deletes its row. One that is killed leaves it, and is silent from then on; it is named
for an hour (`doctor`, /metrics) and then forgotten.
"""

import logging
import os
import socket
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.signals import worker_ready, worker_shutdown
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from helpdesk import __version__
from notifications.models import Worker
from notifications.webhooks import statistics

logger = logging.getLogger(__name__)

BEAT_EVERY = 5.0  # seconds
# Without a sign of life for so long a worker counts as dead, and the clock that sweeps as stopped.
SILENCE = timedelta(seconds=30)
FORGET_AFTER = timedelta(hours=1)

_started_at = timezone.now()


def own_name() -> str:
    return f"{socket.gethostname()[:100]}:{os.getpid()}"


def beat(*, in_flight: int | None = None, concurrency: int | None = None, swept: bool = False) -> None:
    """Say that this process's worker is alive, and what it is doing; forget those that are long gone."""
    now = timezone.now()
    news: dict[str, Any] = {"beat_at": now}
    news |= {} if in_flight is None else {"in_flight": in_flight}
    news |= {} if concurrency is None else {"concurrency": concurrency}
    news |= {"swept_at": now} if swept else {}
    if not Worker.objects.filter(pk=own_name()).update(**news):
        born = Worker(name=own_name(), version=__version__, started_at=_started_at, **news)
        Worker.objects.bulk_create([born], ignore_conflicts=True)
        Worker.objects.filter(beat_at__lt=now - FORGET_AFTER).delete()


def leave() -> None:
    """This process's worker stops as it should: nobody needs to miss it."""
    Worker.objects.filter(pk=own_name()).delete()


@dataclass(frozen=True)
class Workers:
    """All workers that are known, the ones at work and the silent ones; `swept_at`: when the clock last rang."""

    alive: list[Worker]
    silent: list[Worker]
    swept_at: datetime | None

    @property
    def last_beat(self) -> datetime | None:
        return max((worker.beat_at for worker in (*self.alive, *self.silent)), default=None)


def known() -> Workers:
    """One query."""
    found, limit = list(Worker.objects.all()), timezone.now() - SILENCE
    return Workers(
        alive=[worker for worker in found if worker.beat_at >= limit],
        silent=[worker for worker in found if worker.beat_at < limit],
        swept_at=max((worker.swept_at for worker in found if worker.swept_at), default=None),
    )


class Heartbeat(threading.Thread):
    """Beats while the worker has nothing to do; the engine beats by itself while it runs."""

    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._try(beat)
            statistics.flush()
            # Given back in between: a beat is seldom, and a connection is dear.
            connection.close()
            self._stopping.wait(BEAT_EVERY)
        statistics.flush()
        self._try(leave)
        connection.close()

    @staticmethod
    def _try(act: Any) -> None:
        try:
            act()
        except DatabaseError as error:
            logger.warning("The worker could not give a sign of life (%s).", type(error).__name__)


_heartbeat: Heartbeat | None = None


@worker_ready.connect(dispatch_uid="notifications.workers.start")
def _start(**kwargs: Any) -> None:
    global _heartbeat
    _heartbeat = Heartbeat()
    _heartbeat.start()


@worker_shutdown.connect(dispatch_uid="notifications.workers.stop")
def _stop(**kwargs: Any) -> None:
    if _heartbeat is not None:
        _heartbeat.stop()
        _heartbeat.join(5)
