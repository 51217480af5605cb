"""The delivery engine: a loop that claims what is due, sends it concurrently and records results as sets.

Celery runs it and wakes it; the database is the queue. There is no barrier: a slow receiver holds one thread and
nobody else. Measured reasons for this shape are in docs/adr/0003-delivery-engine.md.
"""

import logging
import queue as thread_queue
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from notifications import health
from notifications.webhooks import http, queue, sending
from notifications.webhooks.policy import current_policy
from notifications.webhooks.queue import Claimed, Result

logger = logging.getLogger(__name__)

# Results are written together at most this long after they came, seconds.
FLUSH_EVERY = 0.01
# How long the loop stays when nothing is due, seconds: the next bell finds it running and pays no start.
LINGER = 30.0
# How often it looks for due retries and lost leases while it stays, seconds.
LOOK_EVERY = 0.5
GIVE_BACK_EVERY = 5.0
BATCH = 100


class Engine:
    """One loop per process. `run` blocks until nothing was due for a while or `stop` was called."""

    def __init__(self, concurrency: int | None = None, per_endpoint: int | None = None, linger: float = LINGER) -> None:
        self.concurrency = concurrency or settings.WEBHOOK_CONCURRENCY
        self.per_endpoint = per_endpoint or settings.WEBHOOK_ENDPOINT_CONCURRENCY
        self.linger = linger
        self.policy = current_policy()
        self._running = threading.Lock()
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._in_flight: Counter[UUID] = Counter()
        self._results: thread_queue.SimpleQueue[Result] = thread_queue.SimpleQueue()
        self._unwritten: list[Result] = []
        self._gave_back_at = 0.0

    def wake(self) -> None:
        """There may be something due."""
        self._bell.set()

    def stop(self) -> None:
        """Claim nothing more, finish what is out, record it and return from `run`."""
        self._stopping.set()
        self._bell.set()

    def run(self) -> int:
        """Deliver until idle; returns how many attempts were recorded. A second call while it runs only wakes it."""
        if not self._running.acquire(blocking=False):
            self.wake()
            return 0
        try:
            return self._run()
        finally:
            self._running.release()

    def _run(self) -> int:
        recorded, idle_since = 0, time.monotonic()
        session = http.open_session(self.policy)
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="webhook") as pool:
            while True:
                self._bell.clear()
                try:
                    claimed = [] if self._stopping.is_set() else self._claim()
                    for item in claimed:
                        self._in_flight[item.delivery.endpoint_id] += 1
                        if item.delivery.endpoint.is_internal:
                            # Our own receiver writes to the database, and this thread is the one with a connection.
                            self._send(session, item)
                        else:
                            pool.submit(self._send, session, item)
                    collected = self._collect()
                    recorded += collected
                except DatabaseError as error:
                    # What was sent and not recorded stays in `_unwritten`; what was claimed comes back with its lease.
                    logger.warning("The delivery engine lost its database (%s); it tries again.", type(error).__name__)
                    close_old_connections()
                    claimed, collected, idle_since = [], 0, time.monotonic()
                    self._stopping.wait(1)
                # A result makes room: there may have been more to claim than there was room for.
                if claimed or collected or self._unwritten or self._in_flight.total():
                    idle_since = time.monotonic()
                elif self._stopping.is_set() or time.monotonic() - idle_since >= self.linger:
                    break
                if not claimed and not collected:
                    self._wait()
        session.close()
        return recorded

    def _claim(self) -> list[Claimed]:
        if time.monotonic() - self._gave_back_at > GIVE_BACK_EVERY:
            self._gave_back_at = time.monotonic()
            lost = queue.give_back_expired()
            if lost:
                logger.warning("%s deliveries were given back: the worker that was sending them disappeared.", lost)
            health.beat()
        free = self.concurrency - self._in_flight.total()
        if free <= 0:
            return []
        return queue.claim(min(free, BATCH), in_flight=self._in_flight, per_endpoint=self.per_endpoint)

    def _send(self, session: Any, item: Claimed) -> None:
        self._results.put(sending.send(session, item, self.policy))
        self._bell.set()

    def _collect(self) -> int:
        """Write the results that have come since the last time, together."""
        while True:
            try:
                result = self._results.get_nowait()
            except thread_queue.Empty:
                break
            self._unwritten.append(result)
            endpoint_id = result.claimed.delivery.endpoint_id
            self._in_flight[endpoint_id] -= 1
            if self._in_flight[endpoint_id] <= 0:
                del self._in_flight[endpoint_id]
        count = len(self._unwritten)
        queue.record(self._unwritten)
        self._unwritten = []
        return count

    def _wait(self) -> None:
        """Until a bell rings, a result has come, or it is time to look."""
        if self._bell.wait(LOOK_EVERY) and self._in_flight.total():
            time.sleep(FLUSH_EVERY)  # results that come at about the same time are written together


_engine: Engine | None = None
_making = threading.Lock()


def engine() -> Engine:
    """This process's engine."""
    global _engine
    with _making:
        if _engine is None:
            _engine = Engine()
        return _engine
