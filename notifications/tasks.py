"""Celery tasks. They carry no payload: what is to be done stands in the database, and Celery says when to look."""

from contextlib import suppress
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from notifications import bells, expansion, retention, workers
from notifications.webhooks import recovery
from notifications.webhooks.engine import engine


@shared_task(name="notifications.tasks.deliver_due")
def deliver_due() -> None:
    """Send the webhooks that are due: runs the engine until nothing is, or wakes the one that runs already."""
    engine().run()


@shared_task(name="notifications.tasks.expand_audiences")
def expand_audiences() -> None:
    """Notify the large audiences that are waiting."""
    while expansion.expand_next_batch():
        pass


@shared_task(name="notifications.tasks.release_recoveries")
def release_recoveries() -> None:
    """Put the next slices of what is to be sent again into the queue."""
    recovery.release_due()


@shared_task(name="notifications.tasks.prune")
def prune() -> None:
    """Remove for good what is past its retention. Runs every hour; one that was stopped goes on the next time."""
    with suppress(retention.Stopped):
        retention.prune()


@shared_task(name="notifications.tasks.sweep")
def sweep() -> None:
    """Find what a lost bell would have told. Runs every few seconds."""
    workers.beat(swept=True)
    bells.ring_recoveries()
    bells.ring_expansion()
    bells.ring_deliveries()


@worker_shutting_down.connect(dispatch_uid="notifications.tasks.stop_engine")
def _stop_engine(**kwargs: Any) -> None:
    engine().stop()
    retention.stop()
