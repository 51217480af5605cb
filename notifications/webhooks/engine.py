"""The delivery engine: a loop that claims what is due, sends it concurrently and records results as sets.

Celery runs it and wakes it; the database is the queue. There is no barrier: a slow receiver holds one thread and, after
half a second, no place of anybody else's (`lanes`). Measured reasons for this shape are in
docs/adr/0003-delivery-engine.md, what it does for receivers that fail in docs/adr/0006-one-endpoint-hurts-no-other.md.
"""

import logging
import queue as thread_queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.utils import timezone

from notifications import expansion, workers
from notifications.webhooks import gates, http, outcomes, queue, sending, statistics
from notifications.webhooks.lanes import Lanes
from notifications.webhooks.outcomes import Result
from notifications.webhooks.policy import current_policy
from notifications.webhooks.queue import Claimed
from notifications.webhooks.schedule import asks_for_relief

logger = logging.getLogger(__name__)

# A claim and a record cost by the number of their statements, and hardly by the number of rows. So results wait for one
# another, at most so long, seconds; and while attempts are out, the loop looks for what has come back this often.
RECORD_EVERY = 0.1
RECORDED_TOGETHER = 200
ROUND = 0.01
# Deliveries claimed at a time, and claimed beyond those that can go out at once.
BATCH, AHEAD = 200, 150
# What has waited here for so long is given back, seconds: half of what its lease has beyond an attempt.
PATIENCE = queue.LEASE_MARGIN.total_seconds() / 2
# The same for an endpoint with a rate limit: what its pace allowed then would else go out in a bunch.
PACED_PATIENCE = 1.0
# How long the loop stays when nothing is due, seconds: the next bell finds it running and pays no start.
LINGER = 30.0
# How often it looks for due retries while it stays, seconds; and how often where there is only a moment to wait: for a
# rate limit, for held deliveries that are coming back, or for a slot.
LOOK_EVERY, LOOK_SOON = 0.5, 0.1
GIVE_BACK_EVERY = 5.0
REPAIR_EVERY = 60.0


class Engine:
    """One loop per process. `run` blocks until nothing was due for a while or `stop` was called."""

    def __init__(
        self,
        concurrency: int | None = None,
        per_endpoint: int | None = None,
        linger: float = LINGER,
        slow_concurrency: int | None = None,
    ) -> None:
        self.linger = linger
        self.policy = current_policy()
        self.lanes = Lanes(
            fast=concurrency or settings.WEBHOOK_CONCURRENCY,
            slow=slow_concurrency or settings.WEBHOOK_SLOW_CONCURRENCY,
            per_endpoint=per_endpoint or settings.WEBHOOK_ENDPOINT_CONCURRENCY,
            ahead=AHEAD,
        )
        self._running = threading.Lock()
        self._bell = threading.Event()
        self._stopping = threading.Event()
        # What has come back: a result, or a delivery of which nobody knows what became.
        self._returned: thread_queue.SimpleQueue[Result | Claimed] = thread_queue.SimpleQueue()
        self._unwritten: list[Result] = []
        self._write_at = 0.0
        # Claimed, and without a slot yet; and what has one, with what becomes of it.
        self._waiting: list[Claimed] = []
        self._submitted: dict[Claimed, Future[None]] = {}
        self._soon_more = False
        self._news_only = False
        self._chores = [
            _Chore(self._look_at_audiences, LOOK_EVERY),
            _Chore(self._give_back_expired, GIVE_BACK_EVERY),
            _Chore(self._release, LOOK_EVERY),
            _Chore(self._repair, REPAIR_EVERY),
        ]

    def wake(self) -> None:
        """There may be something due."""
        self._bell.set()

    def stop(self) -> None:
        """Claim nothing more, give back what has not gone out, finish what has, record it and return from `run`."""
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
        # Threads start when they are needed: as many as attempts are out at a time.
        threads = self.lanes.fast + self.lanes.slow
        with http.open_session(self.policy) as session, ThreadPoolExecutor(threads, "webhook") as pool:
            pool.submit(_nothing)  # a first thread, or none of this begins: what is given to the pool gets sent
            try:
                while True:
                    began = time.monotonic()
                    self._bell.clear()
                    self._soon_more = False
                    try:
                        # First of all what has come back: if the database was away for as long as a lease lasts, the
                        # claim would give it back, and it would be sent again.
                        written = self._write()
                        claimed = self._give_back_unsent() if self._stopping.is_set() else self._claim()
                        self._start(pool, session)
                    except DatabaseError as error:
                        # What was sent and not recorded stays in `_unwritten`; what was claimed comes back with its
                        # lease.
                        name = type(error).__name__
                        logger.warning("The delivery engine lost its database (%s); it tries again.", name)
                        close_old_connections()
                        claimed, written, self._soon_more = 0, 0, True
                        self._stopping.wait(1)
                    recorded += written
                    is_busy = bool(self._unwritten or self.lanes.waiting or self.lanes.out)
                    # A result makes room: there may have been more to claim than there was room for.
                    if is_busy or claimed or written or self._soon_more:
                        idle_since = time.monotonic()
                    elif self._stopping.is_set() or time.monotonic() - idle_since >= self.linger:
                        return recorded
                    if is_busy:
                        self._bell.wait(LOOK_SOON)
                        time.sleep(max(0.0, began + ROUND - time.monotonic()))
                    elif not claimed and not written:
                        self._bell.wait(LOOK_SOON if self._soon_more else LOOK_EVERY)
            finally:
                with suppress(DatabaseError):
                    self._give_back_unsent()
                    statistics.flush()

    def _claim(self) -> int:
        """Take what is due, when enough of it would find room; returns how many."""
        now = time.monotonic()
        for chore in self._chores:
            chore.run_if_due(now)
        self.lanes.sort()
        # What waits is enough for the next rounds.
        room = self.lanes.fast_free + self.lanes.ahead - self.lanes.waiting
        if self.lanes.waiting > self.lanes.ahead // 2 or room <= 0:
            return 0
        claim = queue.claim(min(room, BATCH), self.lanes, news_only=self._news_only)
        self._soon_more = self._soon_more or claim.soon_more or self._news_only
        for item in claim.taken:
            self.lanes.reserve(item, item.delivery.endpoint_id)
        # News passes what was claimed before it and has no slot yet, as it would in the queue. What a rate limit has
        # let through goes first: it may not wait for long.
        self._waiting = sorted(
            self._waiting + claim.taken,
            key=lambda item: (item.delivery.priority, item.delivery.endpoint.rate_limit is None),
        )
        return len(claim.taken)

    def _start(self, pool: ThreadPoolExecutor, session: http.Session) -> None:
        """Send what waits and has a slot now; give back what others could have the place of."""
        waiting, self._waiting, stuck, now = self._waiting, [], [], time.monotonic()
        for number, item in enumerate(waiting):
            # What was claimed long ago may be another's by now, and rights, pauses and rates are not those of then.
            if now - item.since > (PACED_PATIENCE if item.delivery.endpoint.rate_limit else PATIENCE):
                stuck.append(item)
            elif self.lanes.may_start(item):
                self.lanes.start(item)
                if item.delivery.endpoint.is_internal:
                    # Our own receiver writes to the database, and this thread is the one with a connection.
                    self._send(session, item)
                elif not self._submit(pool, session, item):
                    self._waiting += waiting[number + 1 :]
                    break
            elif self.lanes.is_stuck(item):
                stuck.append(item)
            else:
                self._waiting.append(item)
        self._give_back(stuck)

    def _submit(self, pool: ThreadPoolExecutor, session: http.Session, item: Claimed) -> bool:
        """Send it in a thread; False when the machine gave no new one. One of those there are will get to it."""
        try:
            self._submitted[item] = pool.submit(self._send, session, item)
        except RuntimeError as error:
            logger.warning("No thread can be started (%s): webhooks are sent by those there are.", error)
            return False
        return True

    def _send(self, session: http.Session, item: Claimed) -> None:
        try:
            returned: Result | Claimed = sending.send(session, item, self.policy)
        except Exception as error:
            # Nothing a receiver does. It is tried again when its lease ends, and not at once, over and over.
            logger.error("A webhook could not be sent (%s).", type(error).__name__)
            returned = item
        self._returned.put(returned)
        self._bell.set()

    def _take_in(self) -> None:
        """Note what has come back since the last time, and free its slots."""
        while True:
            try:
                returned = self._returned.get_nowait()
            except thread_queue.Empty:
                return
            if isinstance(returned, Result):
                if not self._unwritten:
                    self._write_at = time.monotonic() + RECORD_EVERY
                self._unwritten.append(returned)
                exchange = returned.exchange
                self._submitted.pop(returned.claimed, None)
                self.lanes.end(
                    returned.claimed,
                    exchange.total_ms / 1000,
                    answered=exchange.error is None,
                    overloaded=asks_for_relief(exchange),
                )
            else:
                self._submitted.pop(returned, None)
                self.lanes.drop(returned)

    def _write(self) -> int:
        """Record the results that have come, together; returns how many. Nothing is waited for that is not coming."""
        self._take_in()
        count = len(self._unwritten)
        is_time = count >= RECORDED_TOGETHER or time.monotonic() >= self._write_at
        if not count or (self.lanes.out + self.lanes.waiting and not is_time):
            return 0
        outcomes.record(self._unwritten)
        self._unwritten = []
        return count

    def _give_back_unsent(self) -> int:
        """Return what was claimed and has not gone out; nothing is claimed then."""
        unsent = [item for item, future in self._submitted.items() if future.cancel()]
        for item in unsent:
            del self._submitted[item]
        unsent += self._waiting
        self._waiting = []
        self._give_back(unsent)
        return 0

    def _give_back(self, items: list[Claimed]) -> None:
        for item in items:
            self.lanes.drop(item)
        queue.give_back(items)

    # --- what is looked after from time to time -------------------------------------------------------------------
    def _look_at_audiences(self) -> float | None:
        self._news_only = expansion.has_precedence()
        return None

    def _give_back_expired(self) -> float | None:
        lost = queue.give_back_expired()
        if lost:
            logger.warning("%s deliveries were given back: the worker that was sending them disappeared.", lost)
        workers.beat(in_flight=self.lanes.out, concurrency=self.lanes.fast)
        statistics.flush()
        return None

    def _release(self) -> float | None:
        if not gates.release(timezone.now()):
            return None
        self._soon_more = True
        return LOOK_SOON

    def _repair(self) -> float | None:
        if not gates.repair():
            return None
        self._soon_more = True
        return LOOK_SOON


def _nothing() -> None:
    pass


class _Chore:
    """Something to be done every so many seconds, for the first time at once, and sooner where `do` says so."""

    def __init__(self, do: Callable[[], float | None], every: float) -> None:
        self._do, self._every = do, every
        self._due_at = 0.0

    def run_if_due(self, now: float) -> None:
        if now >= self._due_at:
            self._due_at = now + self._every  # also when it fails
            self._due_at = now + (self._do() or self._every)


_engine: Engine | None = None
_making = threading.Lock()


def engine() -> Engine:
    """This process's engine."""
    global _engine
    with _making:
        if _engine is None:
            _engine = Engine()
        return _engine
