"""The publisher: gives committed events their place in the stream and sends them to the hubs, in that order.

Ids commit out of order, and a process may die between its commit and its bell. So one publisher at a time (the holder
of an advisory lock on PostgreSQL; the one server process of the embedded default) numbers what has been committed, and
only what it has numbered is ever shown. Whatever happens to it, the next one goes on where the table says it stopped:
events that were numbered but perhaps not sent are sent again, and hubs know by the position that they had them.

One that dies loses its lock with its session. One that is frozen keeps both, so whoever waits for the lock ends a
session that has said nothing for `SILENCE` (`notifications.publishing_lock`). When the frozen one wakes up it may still
send what it held in memory. That harms nobody: hubs take in each position once, in rising order, and look into the
log when one seems to be missing. It cannot number or mark anything, since its session is gone and the mark is a
compare-and-swap.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import Error as DatabaseError
from django.db import connection
from redis.exceptions import RedisError

from notifications import publishing_lock
from notifications.bells import publisher_bell
from notifications.models import EventStream
from notifications.numbering import BATCH, number_events
from notifications.sockets.hub import hub
from notifications.stream import STREAM_GROUP, message_of, published_after

logger = logging.getLogger(__name__)

# How long an unrung bell may be overlooked, seconds. SQLite cannot be listened to across processes, but looking costs
# microseconds there (a partial index that is nearly always empty); PostgreSQL wakes us itself.
LOOK_EVERY = {"sqlite": 0.1, "postgresql": 2.0}
TAKE_OVER_EVERY = 1.0  # seconds between tries to become the publisher
STOP_WITHIN = 0.2  # seconds in which one that waits for work notices that it must stop
# Longer than this, seconds, a channel layer may not keep us waiting for one batch: we would look frozen.
SEND_DEADLINE = publishing_lock.SILENCE / 2

Send = Callable[[list[dict[str, Any]]], None]


class Superseded(Exception):
    """Another publisher has gone on meanwhile."""


def send_numbered(send: Send, limit: int = BATCH) -> int:
    """Send the numbered events that have not been sent, in order; returns how many.

    Raises what `send` raises; nothing is marked as sent then. Raises Superseded when somebody else has sent them
    while we did: what follows is theirs.
    """
    start = EventStream.objects.values_list("sent_position", flat=True).get(pk=1)
    events = list(published_after(start)[:limit])
    if not events:
        return 0
    send([message_of(event, event.told) for event in events])
    if not EventStream.objects.filter(pk=1, sent_position=start).update(sent_position=events[-1].position):
        raise Superseded
    return len(events)


def publish_once(send: Send | None = None) -> int:
    """Number and send everything that is committed now; returns how many events were sent."""
    sent = 0
    while True:
        numbered = number_events()
        now_sent = send_numbered(send or send_to_layer)
        sent += now_sent
        if not numbered and not now_sent:
            return sent


def send_to_layer(messages: list[dict[str, Any]]) -> None:
    """Send events to every hub, in order, from whatever thread.

    The in-process layer belongs to the event loop its hub runs in; without a hub nobody listens.
    """
    layer = get_channel_layer()

    async def send() -> None:
        async with asyncio.timeout(SEND_DEADLINE):
            for message in messages:
                await layer.group_send(STREAM_GROUP, message)

    if isinstance(layer, InMemoryChannelLayer):
        if hub.loop is not None:
            asyncio.run_coroutine_threadsafe(send(), hub.loop).result(timeout=30)
    else:
        _runner().run(send())


_local = threading.local()


def _runner() -> asyncio.Runner:
    """An event loop of this thread's own, kept: the Redis layer's connections belong to a loop."""
    if not hasattr(_local, "runner"):
        _local.runner = asyncio.Runner()
    return _local.runner


class Publisher(threading.Thread):
    """Publishes for as long as its process lives, whenever it is the one that may."""

    def __init__(self, send: Send | None = None) -> None:
        super().__init__(name="publisher", daemon=True)
        self.stopping = threading.Event()
        self._send = send or send_to_layer

    def stop(self, timeout: float | None = 5) -> None:
        self.stopping.set()
        publisher_bell.set()
        self.join(timeout)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                if publishing_lock.acquire():
                    self._publish_while_mine()
                else:
                    # The session is kept: its name says that we stand by.
                    self.stopping.wait(TAKE_OVER_EVERY)
                    continue
            except Superseded:
                logger.info("Another publisher has taken over.")
            except DatabaseError as error:
                logger.warning("The publisher lost its database (%s); it tries again.", type(error).__name__)
            except (OSError, RedisError) as error:
                # The layer is gone or does not answer. Nothing was marked as sent: starting over loses nothing.
                logger.warning("The publisher cannot reach the channel layer (%r); it tries again.", error)
            except Exception:
                logger.exception("The publisher stumbled; it tries again.")
            publishing_lock.let_go()
            self.stopping.wait(TAKE_OVER_EVERY)
        publishing_lock.let_go()

    def _publish_while_mine(self) -> None:
        while not self.stopping.is_set():
            publisher_bell.clear()
            publish_once(self._send)
            self._wait()

    def _wait(self) -> None:
        seconds = LOOK_EVERY[connection.vendor]
        if connection.vendor == "postgresql":
            # In short pieces, which ask the database nothing: a bell of our own would not end the wait when we stop.
            until = time.monotonic() + seconds
            while not self.stopping.is_set() and time.monotonic() < until:
                if any(True for _ in connection.connection.notifies(timeout=STOP_WITHIN, stop_after=1)):
                    return
        else:
            publisher_bell.wait(seconds)


_started: Publisher | None = None


def start() -> Publisher:
    """Start this process's publisher, once; called where the ASGI application is made."""
    global _started
    if _started is None:
        _started = Publisher()
        _started.start()
    return _started


def stop() -> None:
    """End this process's publisher and let another one take over: its lock goes with it. Waits, 5 seconds at most."""
    if _started is not None:
        _started.stop()
