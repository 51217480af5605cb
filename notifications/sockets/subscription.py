"""This process's one channel of the channel layer, and the groups it is in.

One channel, because an event sent to a group of a thousand channels goes through the layer a thousand times, and
because `channels_redis.core` lets a second channel of a process starve.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from channels.layers import get_channel_layer

from notifications.log_filters import OneLine
from notifications.sockets import limits

logger = logging.getLogger(__name__)

# A connection to Redis that was cut: it reconnects, and what was lost is read from the log.
logging.getLogger("channels_redis.pubsub").addFilter(OneLine())


class Subscription:
    def __init__(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """`handle` gets each message that arrives, one after the other. None of them can be relied upon."""
        self.layer = get_channel_layer()
        self._handle = handle
        self._channel: str | None = None
        self._members: Counter[str] = Counter()
        self._joined: set[str] = set()
        self._tasks: list[asyncio.Task] = []
        # One change at a time: a second member must not go on while the group is still being joined for the first.
        self._changing = asyncio.Lock()

    async def change(self, leave: frozenset[str], enter: frozenset[str]) -> None:
        """Count one member more in the groups of `enter`, one less in those of `leave`.

        Whoever returns is in the groups. Raises what the layer raises.
        """
        async with self._changing:
            if self._channel is None:
                self._channel = await self.layer.new_channel()
                self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._renew())]
            self._members.update(enter)
            self._members.subtract(leave)
            for group in enter - self._joined:
                await self.layer.group_add(group, self._channel)
                self._joined.add(group)
            for group in leave:
                if self._members[group] == 0:
                    del self._members[group]
                    await self._leave(group)

    @property
    def channel(self) -> str | None:
        """The name under which other processes reach this one alone; None before the first change."""
        return self._channel

    def is_in(self, group: str) -> bool:
        return group in self._joined

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with self._changing:
            for group in list(self._joined):
                await self._leave(group)

    async def _leave(self, group: str) -> None:
        if group in self._joined:
            self._joined.discard(group)
            await self.layer.group_discard(group, self._channel)

    async def _read(self) -> None:
        while True:
            try:
                await self._handle(await self.layer.receive(self._channel))
                # A layer that has more at once does not make us wait. The transports must come to write in between, or
                # a burst of events would fill the outbox of everybody.
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("A message of the channel layer was lost.")
                await asyncio.sleep(0.1)  # a layer that is down fails at once, again and again

    async def renew(self) -> None:
        """Tell the layer once more in which groups we are, in case it has forgotten or did not hear it."""
        for group in [group for group, count in self._members.items() if count > 0]:
            try:
                await self.layer.group_add(group, self._channel)
                self._joined.add(group)
            except Exception as error:  # the next round tries again, long before the layer forgets us by itself
                logger.warning("The channel layer did not renew a group (%r).", error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(limits.GROUP_RENEWAL)
            await self.renew()
