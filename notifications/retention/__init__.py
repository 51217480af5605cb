"""What is past its retention is removed for good: by a task every hour, and by `manage.py prune`.

Everything is done in batches, each a short transaction of a few statements, so that neither the queue nor anybody's
change waits for it. Nothing needs to be remembered between runs: what one that was killed left undone, the next one
finds again. Two at once do no harm.

Never removed: deliveries that are not done, the notifications and events they are made from, events that were not
published yet, events that an announcement still needs, and the latest event of everything that still exists, since it
says who may see it now (docs/adr/0004-soft-delete-and-scopes.md).
"""

import logging
from datetime import datetime

from django.utils import timezone

from notifications.retention import deleted, log
from notifications.retention.batches import Stopped, stopping
from notifications.retention.horizon import Horizon

__all__ = ["Stopped", "planned", "prune", "stop"]

logger = logging.getLogger(__name__)


def prune(now: datetime | None = None) -> dict[str, int]:
    """Remove what is past its retention as of `now`; returns how many rows of what."""
    horizon = Horizon.at(now or timezone.now())
    removed = log.prune(horizon)
    for name, count in deleted.prune(horizon).items():
        removed[name] = removed.get(name, 0) + count
    if any(removed.values()):
        logger.info("Pruned: %s.", ", ".join(f"{count} {name}" for name, count in removed.items() if count))
    return removed


def stop() -> None:
    """End a `prune` that runs in this process after its batch; it raises Stopped."""
    stopping.set()


def planned(now: datetime | None = None) -> dict[str, int]:
    """What `prune` would remove now. Only counts: on a large log that takes a while, and holds up nobody."""
    horizon = Horizon.at(now or timezone.now())
    return {**log.planned(horizon), **deleted.planned(horizon)}
