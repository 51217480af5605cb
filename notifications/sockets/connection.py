"""A connection: its person, its rooms, what it is shown, its outbox. It knows neither hub nor protocol but its door."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from notifications.payloads import encode
from notifications.sockets import limits
from notifications.sockets.events import StreamEvent
from notifications.sockets.people import Person
from notifications.sockets.refusal import CloseCode, Refusal
from notifications.sockets.rooms import OWN
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

    def send_now(self, frame: str) -> bool:
        """Hand a frame to the transport if that takes it without waiting, else do nothing; whether it did."""

    def send(self, frame: str) -> Coroutine[Any, Any, None]:
        """Hand a frame to the transport, waiting while it is full. Raises when the client is gone.

        Its first step is made outside of any task: until it waits it may not ask for the current one, as
        `asyncio.timeout` does.
        """

    async def end(self, code: CloseCode, code_name: str, reason: str, retry_after: float | None = None) -> None:
        """End the connection from our side, telling the client why if the protocol can.

        `retry_after`: after how many seconds the client should come back, where it should wait.
        """


@dataclass(slots=True)
class Coverage:
    """From which position on a room has been shown to a connection."""

    start: int  # what came after this was shown, whether replayed or as it happened
    live: int  # what comes after this is shown as it happens


class _Rest:
    """A coroutine that has made its first step already, to be awaited to its end."""

    __slots__ = ("_first", "_steps")

    def __init__(self, steps: Coroutine[Any, Any, None], first: Any) -> None:
        """`first` is what the first step waits for."""
        self._steps = steps
        self._first = first

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._first
        except BaseException:
            self._steps.close()
            raise
        yield from self._steps.__await__()


class Connection:
    """One socket of one signed-in person, whichever door it came through.

    A frame goes to the transport at once while that takes it, without a task in between: a thousand tasks an event
    would cost more than all the rest. Only for a client that is slow, and for as long as it is, there is an outbox and
    a task that empties it.
    """

    __slots__ = (
        "_door",
        "_expiry",
        "_is_started",
        "_outbox",
        "_outbox_size",
        "_resumed_after",
        "_resumed_rooms",
        "_resuming_until",
        "_send_now",
        "_writer",
        "backlog",
        "budget",
        "changing",
        "expires_at",
        "form",
        "groups",
        "id",
        "is_closed",
        "on_closed",
        "operating",
        "person",
        "rooms",
        "session_key",
    )

    def __init__(
        self, door: Door, form: Form, person: Person, expires_at: float | None, session_key: str | None = None
    ) -> None:
        """`form` writes events the way the door sends them; `expires_at` (Unix time) ends the sign-in, and so does
        the end of the browser's session that it is."""
        self.id = uuid4().hex
        self.form = form
        self.person = person
        self.expires_at = expires_at
        self.session_key = session_key
        self.rooms: dict[str, Coverage] = {}
        self.groups: frozenset[str] = frozenset()
        self.budget = limits.OperationBudget()
        # The cursor with which the client came back, until when it counts, and the rooms it has counted for.
        self._resumed_after: int | None = None
        self._resuming_until = 0.0
        self._resumed_rooms: frozenset[str] = frozenset()
        # One change of rooms at a time; while one is made, what happens is kept here and shown when it is done.
        self.changing = asyncio.Lock()
        self.operating = asyncio.Lock()  # one operation at a time, in their order
        self.backlog: list[Callable[[], None]] | None = None
        self.is_closed = False
        self.on_closed: Callable[[Connection], None] = lambda connection: None
        self._door = door
        self._send_now = door.send_now
        self._outbox: deque[str] | None = None  # what waits; most connections never have one
        self._outbox_size = 0
        self._is_started = False
        self._writer: asyncio.Task | None = None  # while something waits
        self._expiry: asyncio.TimerHandle | None = None

    def covering(self, event: StreamEvent) -> Iterator[Coverage]:
        """The rooms of this connection in which the event belongs."""
        return (self.rooms[room] for room in event.rooms if room in self.rooms)

    # --- showing -----------------------------------------------------------------------------------------------------
    def show_live(self, event: StreamEvent) -> None:
        """What happens now, in the rooms in which it has not been shown by a replay."""
        rooms, position = self.rooms, event.position
        update = False
        for room in event.rooms:
            known = rooms.get(room)
            if known is not None and known.live < position:
                update = True
                break
        # As `show` does, without the call: this is the one step that is made for each event and connection.
        if update and (frame := event.update_for(self.person, self.form)):
            self.queue(frame)
        if event.notifications and (own := rooms.get(OWN)) is not None and own.live < position:
            self.show(event, False, True)

    def show(self, event: StreamEvent, update: bool, notification: bool) -> None:
        """As far as it is for this person's eyes."""
        if update and (frame := event.update_for(self.person, self.form)):
            self.queue(frame)
        if notification and (frame := event.notification_for(self.person, self.form)):
            self.queue(frame)

    def ask_to_fetch(self, cursor: int, reason: str, message: str) -> None:
        """Tell `resync_required` in its place in the stream: after what is held back of before."""
        tell = partial(self.tell, "resync_required", reason=reason, message=message, cursor=cursor)
        if self.backlog is None:
            tell()
        else:
            self.backlog.append(tell)

    # --- coming back -------------------------------------------------------------------------------------------------
    def resume(self, after: int | None) -> None:
        """The client came back with this cursor (None: it fetches everything anew)."""
        self._resumed_after = after
        self._resuming_until = time.monotonic() + limits.RESUME_SECONDS

    def has_resumed(self, room: str, seconds: float) -> None:
        """It was replayed from there, and that took so long: other rooms that waited meanwhile are replayed too."""
        self._resumed_rooms |= {room}
        self._resuming_until += seconds

    def replay_from(self, room: str) -> int | None:
        """Whence a room that is joined without a cursor is replayed; None: not at all.

        A client that came back joins the rooms it was in. One that it joins later, or again, belongs to a page that
        has just been fetched.
        """
        if room in self._resumed_rooms or time.monotonic() > self._resuming_until:
            return None
        return self._resumed_after

    # --- sending ---------------------------------------------------------------------------------------------------
    def start(self, *first: str) -> None:
        """Begin to send: `first`, then what is queued. Does not wait, so nothing comes between the caller and it."""
        self._is_started = True
        if first:
            self._outbox = deque((*first, *(self._outbox or ())))
            self._outbox_size += sum(map(len, first))
        self._writer = in_background(self._write())
        self.sign_in_until(self.expires_at)

    def queue(self, frame: str) -> None:
        """Send a frame after those that wait already. Never waits: a client that is too slow for that is closed."""
        if self.is_closed:
            return
        if self._is_started and self._writer is None:
            if not self._send_now(frame):
                self._send(frame)
            return
        if self._outbox is None:
            self._outbox = deque()
        if len(self._outbox) >= limits.OUTBOX_FRAMES or self._outbox_size + len(frame) > limits.OUTBOX_CHARACTERS:
            self.close(
                CloseCode.SLOW, "slow", "More was waiting for you than can be kept. Come back with your last cursor."
            )
            return
        self._outbox.append(frame)
        self._outbox_size += len(frame)

    def tell(self, event: str, **fields: Any) -> None:
        """Queue an event that is for this connection only."""
        self.queue(self.form(event, {name: encode(value) for name, value in fields.items()}))

    @property
    def has_frames_waiting(self) -> bool:
        return bool(self._outbox)

    async def outbox_empty(self) -> None:
        """Wait until what is queued now was handed to the transport. A client that takes too long is closed."""
        if self._writer is None:
            return
        done, _ = await asyncio.wait({self._writer}, timeout=limits.REPLAY_PATIENCE)
        if not done and not self.is_closed:
            self.close(CloseCode.SLOW, "slow", "You take too long to read what you missed. Come back with your cursor.")

    def _send(self, frame: str) -> None:
        """Hand a frame to the transport here and now; what does not end now is continued by the writer."""
        sending = self._door.send(frame)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception as error:
            self._lost(error)
            return
        self._outbox = deque((frame,))
        self._outbox_size = len(frame)
        self._writer = in_background(self._write(_Rest(sending, waits_for)))

    async def _write(self, begun: _Rest | None = None) -> None:
        """Send everything that waits; `begun`: its first frame is being sent already."""
        try:
            while self._outbox:
                await (begun or self._door.send(self._outbox[0]))
                begun = None
                self._outbox_size -= len(self._outbox.popleft())
            self._outbox = self._writer = None
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        """Whatever a server raises when the client has gone."""
        logger.debug("A connection ended while it was written to: %r", error)
        self.gone()

    # --- ending ----------------------------------------------------------------------------------------------------
    def sign_in_until(self, expires_at: float | None) -> None:
        """The sign-in holds until then (Unix time; None: until something else ends it)."""
        if self.is_closed:
            return
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

    def close(self, code: CloseCode, code_name: str, reason: str, **more: Any) -> asyncio.Task | None:
        """End it at once: what was queued is not sent any more. Returns the farewell, if it is the first."""
        if self.is_closed:
            return None
        self.gone()
        return in_background(self._door.end(code, code_name, reason, **more))

    def gone(self) -> None:
        """The client has left, or must leave. Nothing is sent after this."""
        if self.is_closed:
            return
        self.is_closed = True
        self._outbox = None
        if self._expiry is not None:
            self._expiry.cancel()
        if self._writer is not None and self._writer is not asyncio.current_task():
            self._writer.cancel()
        self.on_closed(self)
