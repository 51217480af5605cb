"""Bells: rung after a commit to wake whoever has work now. They carry nothing, and losing one loses nothing."""

import logging
import threading
import time

from celery import current_app

logger = logging.getLogger(__name__)

# Wakes the publisher of this process. One in another process is woken by PostgreSQL's NOTIFY (a trigger on the event
# table rings it) or finds the events on its next look.
publisher_bell = threading.Event()


def ring_publisher() -> None:
    publisher_bell.set()


def ring_deliveries() -> None:
    """Tell the workers that deliveries are due."""
    _ring("notifications.tasks.deliver_due")


def ring_recoveries() -> None:
    """Tell the workers that more of what is to be sent again may go into the queue."""
    _ring("notifications.tasks.release_recoveries")


def ring_expansion() -> None:
    """Tell the workers that a large audience waits to be notified."""
    _ring("notifications.tasks.expand_audiences")


# A broker that did not answer is left alone for so long, seconds: requests must not queue up before it.
PAUSE_AFTER_FAILURE = 5.0
# A bell that was not heard for so long, seconds, need not ring any more: the sweep has been there.
EXPIRES = 30.0

_silent_until = 0.0


def _ring(task: str) -> None:
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        current_app.send_task(task, retry=False, ignore_result=True, expires=EXPIRES)
    except Exception as error:  # any broker's any failure: the sweep finds the work
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        logger.warning("The broker did not take a bell (%s); the next sweep will do.", type(error).__name__)
