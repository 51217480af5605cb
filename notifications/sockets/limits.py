"""What one person, one connection and one frame may cost. Whoever meets a limit is told so."""

import time

from django.conf import settings

from notifications.sockets.refusal import CloseCode, Refusal

# Largest frame taken from a client. The largest operation is `auth` with a token of a few kilobytes.
FRAME_BYTES = 64 * 1024
# How long a connection may stay anonymous, seconds.
SIGN_IN_SECONDS = 10.0

# Operations: a page joins its handful of rooms at once and then types and looks; a person is never this quick.
OPERATIONS_PER_SECOND = float(settings.SOCKET_OPERATIONS_PER_SECOND)
OPERATIONS_AT_ONCE = 50
# Open ticket pages, each with a room of its own, that one connection can follow.
ROOMS_PER_CONNECTION = settings.SOCKET_ROOMS
# Tabs and devices of one person, counted in each process; and what all of them together may do and follow there: as
# much as so many that do all that one may.
CONNECTIONS_PER_PERSON = settings.SOCKET_CONNECTIONS_PER_PERSON
BUSY_CONNECTIONS = 5

# What waits for a slow client. Beyond either bound it is closed, and comes back with its cursor.
OUTBOX_FRAMES = settings.SOCKET_OUTBOX_FRAMES
OUTBOX_CHARACTERS = settings.SOCKET_OUTBOX_CHARACTERS
# Frames handed to Engine.IO, whose own queue has no bound, before the outbox is asked to wait.
ENGINE_FRAMES = 64

# New connections that a process takes on one core without making the others wait; those that a shutdown sends away
# come back at this pace. Measured: 100-220 a second, all signed in (docs/benchmarks.md).
RETURNS_PER_SECOND = 150.0

# A replay: more than this many events missed cost less to fetch anew; they are read page by page.
REPLAY_EVENTS = 1_000
REPLAY_PAGE = 100
# Of everybody's events, so many are looked through for those that somebody may see: tens of milliseconds.
REPLAY_SPAN = 50_000
# For how long after coming back the rooms that a client joins are replayed from its cursor, seconds.
RESUME_SECONDS = 60.0
# Replays that run at a time in a process. When everybody comes back at once the others wait for their turn; each takes
# a moment then, instead of all of them minutes.
REPLAYS_AT_ONCE = 8
# A replay whose client takes longer than this to read a page, seconds, lets another one go on meanwhile.
REPLAY_TURN = 0.5
# How long a client may take to read a page of a replay, seconds.
REPLAY_PATIENCE = 30.0

# How often a process looks whether the layer has kept something from it, seconds: what it has not got for a whole
# interval is read from the log: whoever loses a right while Redis is away loses it within a second all the same.
LOOK_EVERY = 0.5
# More events than this, kept from a process, cost less to fetch anew.
CATCH_UP_EVENTS = 10_000
# How long the reading of them waits for the connections that are to show them, seconds a page.
CATCH_UP_PATIENCE = 1.0

# The layer forgets a group's member after a day (`group_expiry`); seconds between our signs of life.
GROUP_RENEWAL = 3_600.0


def is_too_large(frame: str) -> bool:
    """Whether a client's frame has more than FRAME_BYTES."""
    return len(frame) > FRAME_BYTES or (not frame.isascii() and len(frame.encode(errors="surrogatepass")) > FRAME_BYTES)


def too_large() -> Refusal:
    return Refusal("too_large", f"A frame has at most {FRAME_BYTES:,} bytes.", CloseCode.MALFORMED)


class OperationBudget:
    """A token bucket: `OPERATIONS_AT_ONCE` operations at once, `OPERATIONS_PER_SECOND` in the long run."""

    __slots__ = ("_counted_at", "_left", "_times", "shared")

    def __init__(self, times: int = 1) -> None:
        """`times`: as many connections as have this budget together. `shared` is then the one of all the person's."""
        self._times = times
        self._left = float(OPERATIONS_AT_ONCE * times)
        self._counted_at = time.monotonic()
        self.shared: OperationBudget | None = None

    def spend(self) -> None:
        """Take one operation's share; raises Refusal when there is none left."""
        now, most, rate = time.monotonic(), OPERATIONS_AT_ONCE * self._times, OPERATIONS_PER_SECOND * self._times
        # Refused ones count too: who never pauses is never served again, and in the end is closed.
        self._left = max(min(most, self._left + (now - self._counted_at) * rate) - 1, -most - 1)
        self._counted_at = now
        if self._left < 0:
            whose = " for all of your connections together" if self._times > 1 else ""
            raise Refusal(
                "too_many_messages", f"Too many messages: {rate:.0f} a second are allowed{whose}. Please wait."
            )
        if self.shared is not None:
            self.shared.spend()

    @property
    def is_abused(self) -> bool:
        """Whether the client went on for as many operations again after the first refusal."""
        return self._left < -OPERATIONS_AT_ONCE
