"""A unit of work: one transaction, with something to be done right before it commits.

Django tells us when a transaction has committed, but not when it is about to. Events, notifications and deliveries
must be written in the transaction of the change, and as few statements as possible must do it however many objects
a change touches; so they are collected while the unit runs and written once, at its end.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import transaction

C = TypeVar("C", bound=Callable[[], None])


class _Unit:
    def __init__(self) -> None:
        self.closing: dict[Hashable, Any] = {}


_running = threading.local()


@contextmanager
def unit() -> Iterator[None]:
    """Run the block in a transaction; what `before_commit` was given runs at its end, inside that transaction.

    Nested units join the outermost one: there is one end, and a failure anywhere undoes all of it.
    """
    if getattr(_running, "unit", None) is not None:
        with transaction.atomic(savepoint=False):
            yield
        return
    _running.unit = _Unit()
    try:
        with transaction.atomic():
            yield
            while _running.unit.closing:
                closing, _running.unit.closing = _running.unit.closing, {}
                for callback in closing.values():
                    callback()
    finally:
        _running.unit = None


def before_commit(callback: C, *, key: Hashable) -> C:
    """Run `callback` once at the end of the running unit, and return the one that will be run.

    A second callback with the same `key` is ignored and the first returned, so that a collector can be asked for
    where it is needed. Raises RuntimeError outside a unit: there would be no end to wait for.
    """
    running: _Unit | None = getattr(_running, "unit", None)
    if running is None:
        raise RuntimeError("before_commit() needs a running unit()")
    return running.closing.setdefault(key, callback)
