"""How much is removed at a time, and how."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

from django.db.models import Model, Q, QuerySet

# Rows a transaction removes. With the attempts of that many deliveries it takes some tens of milliseconds.
BATCH = 500
# Seconds between two transactions: on SQLite they hold the only write lock there is.
PAUSE = 0.02


def windows(model: type[Model], before: UUID) -> Iterator[Q]:
    """The rows of `model` with smaller ids than `before`, the oldest first, as conditions on BATCH rows each.

    A window is found by the primary key, whatever is to be removed of it: no statement runs long because there is
    little to remove among much that stays.
    """
    rows = model._base_manager.filter(pk__lt=before).order_by("pk").values_list("pk", flat=True)
    window = list(rows[:BATCH])
    while window:
        yield Q(pk__gte=window[0], pk__lte=window[-1])
        window = list(rows.filter(pk__gt=window[-1])[:BATCH])


def drain(rows: QuerySet, remove: Callable[[list[UUID]], int]) -> int:
    """Hand all of `rows`, which an index finds, to `remove`, BATCH ids at a time; returns the sum of what it counts."""
    ids = list(rows.order_by().values_list("pk", flat=True))
    return sum(remove(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH))


def delete_rows(rows: QuerySet) -> int:
    """One DELETE. Nothing is collected, nothing cascades and no signal is sent: whatever refers to them is gone.

    The database's own foreign keys stand behind that.
    """
    return rows.order_by()._raw_delete(rows.db)  # type: ignore[attr-defined]


class Stopped(Exception):
    """The process is about to end. What is left, the next run finds."""


stopping = threading.Event()


def pause() -> None:
    """Between two transactions. Raises Stopped when the process is to end."""
    if stopping.wait(PAUSE):
        raise Stopped
