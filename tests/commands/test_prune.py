"""`prune`: says what it would do, does it, and says what it did."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import retention
from tests.commands.shell import manage
from tickets.models import Ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def gone(ticket) -> Ticket:
    """A ticket that was deleted long ago."""
    ticket.delete()
    Ticket.objects.filter(pk=ticket.pk).update_without_signals(deleted_at=timezone.now() - timedelta(days=31))
    return ticket


def exists(ticket: Ticket) -> bool:
    return Ticket._base_manager.filter(pk=ticket.pk).exists()


def test_nothing_to_do(ticket):
    ended = manage("prune")
    assert (ended.code, ended.out.splitlines()) == (
        0,
        [
            "Nothing is past its retention.",
            "WEBHOOK_RETENTION_DAYS=30",
            "EVENT_RETENTION_DAYS=365",
            "DELETED_RETENTION_DAYS=30",
        ],
    )


def test_a_dry_run_then_for_real(gone):
    assert manage("prune", "--dry-run").out.startswith("1 tickets would be removed.\n")
    assert exists(gone)
    found = json.loads(manage("prune", "--json").out)
    assert (found["dry_run"], found["removed"]["tickets"]) == (False, 1)
    assert not exists(gone)


def test_for_ever(gone, settings):
    settings.DELETED_RETENTION_DAYS = 0
    ended = manage("prune")
    assert ended.out.startswith("Nothing is past its retention.\n")
    assert "DELETED_RETENTION_DAYS=0 (for ever)" in ended.out
    assert exists(gone)


def test_the_task_does_it_and_logs_it(gone, caplog):
    from notifications import tasks

    with caplog.at_level("INFO", logger=retention.__name__):
        tasks.prune()
    assert not exists(gone)
    assert "1 tickets" in caplog.text
