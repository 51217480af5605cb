"""Celery tasks. They carry no payload: what is to be done stands in the database."""

from celery import shared_task


@shared_task(name="notifications.tasks.deliver_due")
def deliver_due() -> None:
    """Send the webhooks that are due."""


@shared_task(name="notifications.tasks.expand_audiences")
def expand_audiences() -> None:
    """Notify the large audiences that are waiting."""
