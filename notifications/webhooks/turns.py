"""Requests of ours that somebody waits for: few at a time, so that a slow receiver does not take everybody's threads.

A check of a receiver that hangs takes more than a minute, and all that time a thread that answers requests.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.core.cache import cache

# In each process; where requests have a few threads each (deploy/), it leaves most of them.
AT_ONCE = 2
# Seconds after which a turn ends that nobody has ended, since its process died.
LONGEST = 120

_places = threading.BoundedSemaphore(AT_ONCE)


class Busy(Exception):
    """It is not our turn; the message says why."""


@contextmanager
def turn(user_id: UUID) -> Iterator[None]:
    """One test or check at a time of each person, and AT_ONCE of all in this process. Raises Busy at once."""
    key = f"webhook-trial:{user_id}"
    if not cache.add(key, True, LONGEST):
        raise Busy("A test or check of yours is running. Please wait for its end.")
    try:
        if not _places.acquire(blocking=False):
            raise Busy("Others are testing their receivers. Please try again in a moment.")
        try:
            yield
        finally:
            _places.release()
    finally:
        cache.delete(key)
