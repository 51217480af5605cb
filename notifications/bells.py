"""Bells: rung after a commit to wake whoever has work now. They carry nothing, and losing one loses nothing."""

import logging
import threading

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


def ring_expansion() -> None:
    """Tell the workers that a large audience waits to be notified."""
    _ring("notifications.tasks.expand_audiences")


def _ring(task: str) -> None:
    try:
        current_app.send_task(task, retry=False, ignore_result=True)
    except Exception as error:  # any broker's any failure: the sweep finds the work
        logger.warning("The broker did not take a bell (%s); the next sweep will do.", type(error).__name__)
