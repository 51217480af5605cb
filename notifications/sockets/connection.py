"""A connection: its person, its rooms and its outbox. It knows neither hub nor protocol, only its door."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from notifications.payloads import encode
from notifications.sockets import limits
from notifications.sockets.events import StreamEvent
from notifications.sockets.people import Person
from notifications.sockets.refusal import CloseCode, Refusal
from notifications.sockets.wire import Form

logger = logging.getLogger(__name__)

_running: set[asyncio.Task] = set()


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task:
    """Run `work` beside everything else. What it raises is logged."""
    task = asyncio.create_task(work)
    _running.add(task)  # the loop itself keeps only weak references
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task) -> None:
    _running.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.error("Work of a connection failed.", exc_info=task.exception())


class Door(Protocol):
    """The protocol side of one connection."""

    async def send(self, frame: str) -> None:
        """Hand a frame to the transport, waiting while it is full. Raises when the client is gone."""

    async def end(self, code: CloseCode, code_name: str, reason: str) -> None:
        """End the connection from our side, telling the client why if the protocol can."""


@dataclass(slots=True)
class Coverage:
    """From which position on a room has been shown to a connection."""

    start: int  # what came after this was shown, whether replayed or as it happened
    live: int  # what comes after this is shown as it happens


class Connection:
    """One socket of one signed-in person, whichever door it came through."""

    def __init__(self, door: Door, form: Form, person: Person, expires_at: float | None) -> None:
        """`form` writes events the way the door sends them; `expires_at` (Unix time) ends the sign-in."""
        self.id = uuid4().hex
        self.form = form
        self.person = person
        self.expires_at = expires_at
        self.rooms: dict[str, Coverage] = {}
        self.groups: frozenset[str] = frozenset()
        self.budget = limits.OperationBudget()
        # The cursor with which the client came back: rooms it joins without naming one are replayed from there too.
        self.resumed_after: int | None = None
        # One change of rooms at a time; while one is made, what happens is kept here and shown when it is done.
        self.changing = asyncio.Lock()
        self.backlog: list[StreamEvent] | None = None
        self.is_closed = False
        self.on_closed: Callable[[Connection], None] = lambda connection: None
        self._door = door
        self._outbox: deque[str] = deque()
        self._outbox_size = 0
        self._filled = asyncio.Event()
        self._eased = asyncio.Event()
        self._writer: asyncio.Task | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def covering(self, event: StreamEvent) -> Iterator[Coverage]:
        """The rooms of this connection in which the event belongs."""
        return (self.rooms[room] for room in event.rooms if room in self.rooms)

    # --- sending ---------------------------------------------------------------------------------------------------
    def start(self, *first: str) -> None:
        """Begin to send: `first`, then what is queued. Does not wait, so nothing comes between the caller and it."""
        self._outbox.extendleft(reversed(first))
        self._outbox_size += sum(map(len, first))
        self._writer = in_background(self._write())
        self.sign_in_until(self.expires_at)

    def queue(self, frame: str) -> None:
        """Send a frame after those that wait already. Never waits: a client that is too slow for that is closed."""
        if self.is_closed:
            return
        if len(self._outbox) >= limits.OUTBOX_FRAMES or self._outbox_size + len(frame) > limits.OUTBOX_CHARACTERS:
            self.close(
                CloseCode.SLOW, "slow", "More was waiting for you than can be kept. Come back with your last cursor."
            )
            return
        self._outbox.append(frame)
        self._outbox_size += len(frame)
        self._filled.set()

    def tell(self, event: str, **fields: Any) -> None:
        """Queue an event that is for this connection only."""
        self.queue(self.form(event, {name: encode(value) for name, value in fields.items()}))

    async def outbox_empty(self) -> None:
        """Wait until everything queued was handed to the transport. A client that takes too long is closed."""
        try:
            async with asyncio.timeout(limits.REPLAY_PATIENCE):
                while self._outbox and not self.is_closed:
                    self._eased.clear()
                    await self._eased.wait()
        except TimeoutError:
            self.close(CloseCode.SLOW, "slow", "You take too long to read what you missed. Come back with your cursor.")

    async def _write(self) -> None:
        try:
            while True:
                while self._outbox:
                    await self._door.send(self._outbox[0])
                    self._outbox_size -= len(self._outbox.popleft())
                self._eased.set()
                self._filled.clear()
                await self._filled.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever a server raises when the client has gone
            logger.debug("A connection ended while it was written to: %r", error)
            self.gone()

    # --- ending ----------------------------------------------------------------------------------------------------
    def sign_in_until(self, expires_at: float | None) -> None:
        """The sign-in holds until then (Unix time; None: until something else ends it)."""
        self.expires_at = expires_at
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if expires_at is not None:
            delay = max(0.0, expires_at - time.time())
            self._expiry = asyncio.get_running_loop().call_later(
                delay, self.close, CloseCode.UNAUTHENTICATED, "token_expired", "Your sign-in has expired."
            )

    def refuse(self, refusal: Refusal) -> None:
        self.close(refusal.close_code, refusal.code, refusal.message)

    def close(self, code: CloseCode, code_name: str, reason: str) -> None:
        """End it at once: what was queued is not sent any more."""
        if not self.is_closed:
            self.gone()
            in_background(self._door.end(code, code_name, reason))

    def gone(self) -> None:
        """The client has left, or must leave. Nothing is sent after this."""
        if self.is_closed:
            return
        self.is_closed = True
        self._outbox.clear()
        self._eased.set()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._writer is not None and self._writer is not asyncio.current_task():
            self._writer.cancel()
        self.on_closed(self)
