"""Every published event to this process, once and in order, whatever the channel layer does.

All hubs are in one group, to which the publisher sends each event once. Positions have no holes, so whoever gets all of
them knows from the next one whether something is missing. The layer is only the quick way: Redis forgets its
subscribers when it restarts and drops those that are slow, and the in-process layer drops what does not fit. What it
did not bring is read from the log, either before the next event is taken in or, when none comes, by looking how far
the stream has come.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from django.db import Error as DatabaseError

from notifications.sockets import limits, replay
from notifications.sockets.events import StreamEvent

logger = logging.getLogger(__name__)

Ask = Callable[..., Awaitable[Any]]


class Follower:
    def __init__(
        self,
        ask: Ask,
        take: Callable[[StreamEvent], Awaitable[None]],
        lost: Callable[[int], None],
        eased: Callable[[], Awaitable[None]],
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        """`ask` runs database work in a thread.

        `take` gets each event: what it raises before it has shown the event to anybody is tried again, if it comes
        from the database. `lost` is called with the position up to which events are gone for good, `eased` waits
        after each page that was read from the log, `renew` tells the layer once more in which groups we are.
        """
        self.position: int | None = None  # of the last event taken in; None: not following yet
        self._ask = ask
        self._take = take
        self._lost = lost
        self._eased = eased
        self._renew = renew
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task | None = None
        self._is_stuck = False

    async def start(self) -> None:
        """Follow from here. We must be in the group already: what comes after this position is heard of."""
        self.position = await self._ask(replay.last_position)
        self._looking = asyncio.create_task(self._look_again_and_again())

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def heard(self, message: dict[str, Any]) -> None:
        """The layer brought an event."""
        if self.position is None or message["position"] <= self.position:
            return  # sent again by a publisher that took over, or read from the log before it came
        async with self._turn, self._trouble():
            if message["position"] > self.position + 1:
                await self._catch_up(await self._ask(replay.last_position))
            if message["position"] == self.position + 1:
                await self._hand_over(message)

    async def _look_again_and_again(self) -> None:
        expected = 0
        while True:
            await asyncio.sleep(limits.LOOK_EVERY)
            async with self._turn, self._trouble():
                expected = await self._look(expected)

    async def _look(self, expected: int) -> int:
        """Returns where the stream is; `expected` is where it was one look ago: what is not here since is missing."""
        assert self.position is not None
        last = await self._ask(replay.last_position)
        if last < self.position:
            logger.warning("The event stream went back from %d to %d; was a backup restored?", self.position, last)
            self._skip(last)
        elif self.position < expected:
            logger.warning("The channel layer did not bring events %d to %d; the log does.", self.position + 1, last)
            await self._renew()
            await self._catch_up(last)
        return last

    async def _catch_up(self, last: int) -> None:
        """Take in everything up to `last` from the log."""
        assert self.position is not None
        if last - self.position > limits.CATCH_UP_EVENTS:
            self._skip(last)
        while self.position < last:
            events = await self._ask(replay.log, self.position, last)
            for event in events:
                if event.position > self.position + 1:
                    self._skip(event.position - 1)  # pruned meanwhile
                await self._hand_over(event)
            if not events:
                self._skip(last)
            await self._eased()

    async def _hand_over(self, event: StreamEvent | dict[str, Any]) -> None:
        position = event["position"] if isinstance(event, dict) else event.position
        try:
            await self._take(StreamEvent(event) if isinstance(event, dict) else event)
        except (DatabaseError, OSError):
            raise  # it is tried again
        except Exception:
            logger.exception("Event %d could not be shown.", position)
            self._skip(position)
        else:
            self.position = position

    def _skip(self, position: int) -> None:
        self.position = position
        self._lost(position)

    @contextlib.asynccontextmanager
    async def _trouble(self) -> AsyncIterator[None]:
        """What fails now is tried again at the next event or look; it is logged when it begins, not each time."""
        try:
            yield
        except Exception as error:
            if not self._is_stuck:
                logger.warning("The event stream cannot be followed (%r); trying again.", error)
            self._is_stuck = True
        else:
            if self._is_stuck:
                logger.warning("The event stream is followed again.")
            self._is_stuck = False
