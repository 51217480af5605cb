"""Celery tasks. They carry no payload: what is to be done stands in the database, and Celery says when to look."""

from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from notifications import expansion, health
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


@shared_task(name="notifications.tasks.sweep")
def sweep() -> None:
    """Find what a lost bell would have told. Runs every few seconds."""
    health.beat()
    expand_audiences.delay()
    deliver_due.delay()


@worker_shutting_down.connect(dispatch_uid="notifications.tasks.stop_engine")
def _stop_engine(**kwargs: Any) -> None:
    engine().stop()
