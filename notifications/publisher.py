"""The publisher: gives committed events their place in the stream and sends them to the groups, in that order.

Ids commit out of order, and a process may die between its commit and its bell. So one publisher at a time (the holder
of an advisory lock on PostgreSQL; the one server process of the embedded default) numbers what has been committed, and
only what it has numbered is ever shown. Whatever happens to it, the next one goes on where the table says it stopped:
events that were numbered but perhaps not sent are sent again, and hubs know by the position that they had them.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import Error as DatabaseError
from django.db import connection, transaction
from redis.exceptions import RedisError

from notifications.bells import publisher_bell
from notifications.models import Event, EventStream
from notifications.sockets.hub import hub
from notifications.stream import groups_of, message_of

logger = logging.getLogger(__name__)

BATCH = 500
# How long an unrung bell may be overlooked, seconds. SQLite cannot be listened to across processes, but looking costs
# microseconds there (a partial index that is nearly always empty); PostgreSQL wakes us itself.
LOOK_EVERY = {"sqlite": 0.1, "postgresql": 2.0}
TAKE_OVER_EVERY = 1.0  # seconds between tries to become the publisher
LOCK_KEY = 0x68656C70  # "help"; any number that nobody else in this database uses

Send = Callable[[list[tuple[str, dict[str, Any]]]], None]


def number_events(limit: int = BATCH) -> int:
    """Give up to `limit` committed events their position; returns how many. One short transaction."""
    if not Event.objects.filter(position=None).exists():
        return 0
    with transaction.atomic():
        stream = EventStream.objects.select_for_update().get(pk=1)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                UPDATE notifications_event SET position = numbered.position
                FROM (
                    SELECT id, %s + ROW_NUMBER() OVER (ORDER BY id) AS position
                    FROM notifications_event WHERE position IS NULL ORDER BY id LIMIT %s
                ) AS numbered
                WHERE notifications_event.id = numbered.id
                """,
                [stream.last_position, limit],
            )
            count = cursor.rowcount
        stream.last_position += count
        stream.save(update_fields=["last_position"])
    return count


def send_numbered(send: Send, limit: int = BATCH) -> int:
    """Send the numbered events that have not been sent, in order; returns how many.

    Raises what `send` raises; nothing is marked as sent then.
    """
    stream = EventStream.objects.get(pk=1)
    events = list(
        Event.objects.published()
        .filter(position__gt=stream.sent_position)
        .select_related("origin")
        .prefetch_related("notifications")[:limit]
    )
    if not events:
        return 0
    messages = []
    for event in events:
        notifications = list(event.notifications.all())
        message = message_of(event, notifications)
        messages += [(group, message) for group in groups_of(event, notifications)]
    send(messages)
    EventStream.objects.filter(pk=1).update(sent_position=events[-1].position)
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


def send_to_layer(messages: list[tuple[str, dict[str, Any]]]) -> None:
    """Send group messages in order, from whatever thread.

    The in-process layer belongs to the event loop its hub runs in; without a hub nobody listens.
    """
    layer = get_channel_layer()

    async def send() -> None:
        for group, message in messages:
            await layer.group_send(group, message)

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

    def __init__(self) -> None:
        super().__init__(name="publisher", daemon=True)
        self.stopping = threading.Event()

    def stop(self, timeout: float | None = 5) -> None:
        self.stopping.set()
        publisher_bell.set()
        self.join(timeout)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                if not self._may_publish():
                    self.stopping.wait(TAKE_OVER_EVERY)
                    continue
                self._publish_while_mine()
            except DatabaseError as error:
                logger.warning("The publisher lost its database (%s); it tries again.", type(error).__name__)
            except (OSError, RedisError) as error:
                # The layer is gone. Nothing was marked as sent, so nothing is lost by starting over.
                logger.warning("The publisher cannot reach the channel layer (%s); it tries again.", error)
            except Exception:
                logger.exception("The publisher stumbled; it tries again.")
            finally:
                _let_go()
            self.stopping.wait(TAKE_OVER_EVERY)

    @staticmethod
    def _may_publish() -> bool:
        if connection.vendor != "postgresql":
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
            mine = cursor.fetchone()[0]
            if mine:
                cursor.execute("LISTEN helpdesk_events")
        return mine

    def _publish_while_mine(self) -> None:
        while not self.stopping.is_set():
            publisher_bell.clear()
            publish_once()
            self._wait()

    @staticmethod
    def _wait() -> None:
        seconds = LOOK_EVERY[connection.vendor]
        if connection.vendor == "postgresql":
            for _ in connection.connection.notifies(timeout=seconds, stop_after=1):
                pass
        else:
            publisher_bell.wait(seconds)


def _let_go() -> None:
    """End the database session, and the lock and LISTEN with it; a pool would keep a session that is only closed."""
    if connection.vendor == "postgresql" and connection.connection is not None:
        connection.connection.close()
    connection.close()


_started: Publisher | None = None


def start() -> Publisher:
    """Start this process's publisher, once; called where the ASGI application is made."""
    global _started
    if _started is None:
        _started = Publisher()
        _started.start()
    return _started
