"""The worker process of `serve`: a Celery worker on threads, with its clock (beat) as one more thread.

Run as `python -m helpdesk.management.serving.worker`. One process, not two: Celery's own `--beat` forks, and the fork
would outlive a worker that is killed.
"""

import warnings
from contextlib import suppress
from typing import Any

from celery.beat import EmbeddedService
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.signals import worker_ready
from kombu.exceptions import OperationalError

from helpdesk.celery import app
from helpdesk.management.serving import lifeline

# Tasks at a time. The webhook engine brings its own threads; besides it there are the sweep and the announcements.
CONCURRENCY = 4


@worker_ready.connect
def _start_clock(**kwargs: Any) -> None:
    # What came due while nobody worked need not wait for the clock's first tick.
    app.send_task(app.conf.beat_schedule["sweep"]["task"])
    # The schedule is kept in memory: a file could be left torn by a kill, and intervals have nothing to remember.
    EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler").start()


def main() -> None:
    lifeline.watch()
    # Celery warns of root for the sake of pickled messages; ours are JSON. And of how a later version will treat tasks
    # that run while the broker is lost; ours may go on.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    app.conf.worker_enable_remote_control = False  # nobody asks, and its queues would pile up in the broker's folder
    # Bells of the past. They carry nothing, and the sweep above finds what they rang for. A broker that does not
    # answer is no reason to end: the worker waits for it.
    with suppress(OperationalError):
        app.control.purge()
    app.worker_main(
        f"--quiet worker --pool threads --concurrency {CONCURRENCY} --loglevel WARNING "
        "--without-gossip --without-mingle --without-heartbeat".split()
    )


if __name__ == "__main__":
    main()
