"""Which deliveries this process has, and what room there is for more.

An attempt has a fast slot. One that has been out for half a second gives it back and takes one of the slow slots, so
that receivers that hang hold no place of those that answer; from then on their endpoint gets slow slots only, until it
answers quickly again, and one that does not answer at all gets few of them. An endpoint of which nothing is known yet
gets few at a time as well, and those together never all of the fast slots: a process that has just started must not
give everything to the ones that hang. Nobody waits for anybody: these are counts.

More is claimed than can go out at once, since a claim costs about the same for two hundred as for two. What waits for
its slot here is `ahead`.
"""

import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from uuid import UUID

# Seconds after which an attempt is a slow one. Healthy receivers answer in a tenth of it.
SLOW_AFTER = 0.5
# Attempts that start within a tick, seconds: enough for what one core can send. Threads that all want to run at once
# get in each other's way, those that wait for an answer do not.
TICK = 0.01
STARTS_IN_TICK = 20
# Attempts at a time to an endpoint that did not answer the last time, and to one that has not answered yet.
HANGING_LIMIT = 2
UNKNOWN_LIMIT = 2
# Of the fast slots, the share that endpoints of which nothing is known may have together.
UNKNOWN_SHARE = 0.75
# Of a quick endpoint, so many times what it gets at a time may be here: it shall not run dry between two claims.
AHEAD = 4
# When more endpoints are known than this, those that have nothing here are forgotten: they start over as unknown.
REMEMBERED = 50_000


class Pace(Enum):
    """How an endpoint answered the last time."""

    QUICK = "quick"
    SLOW = "slow"  # it takes more than SLOW_AFTER
    HANGING = "hanging"  # no answer, or none yet after SLOW_AFTER; or it asked for relief


@dataclass(slots=True, eq=False)
class _Endpoint:
    """What is here of one endpoint, and what is known of it."""

    id: UUID
    pace: Pace | None = None  # None: nothing is known yet
    here: int = 0  # waiting or out
    out: int = 0
    unknown: int = 0  # of those that are here, as many as were claimed before anything was known

    @property
    def is_slow(self) -> bool:
        return self.pace is Pace.SLOW or self.pace is Pace.HANGING


@dataclass(slots=True)
class _Out:
    endpoint: _Endpoint
    since: float
    slow: bool


class Lanes:
    """The slots of one process. `clock` gives monotonic seconds. Used by one thread."""

    def __init__(
        self, fast: int, slow: int, per_endpoint: int, ahead: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.fast, self.slow, self.per_endpoint, self.ahead = fast, slow, per_endpoint, ahead
        self._clock = clock
        self._waiting: dict[Hashable, _Endpoint] = {}
        # In the order in which they started, all of them and those that still have a fast slot.
        self._out: dict[Hashable, _Out] = {}
        self._quick: dict[Hashable, _Out] = {}
        # All that are known, and those of which there is something here.
        self._endpoints: dict[UUID, _Endpoint] = {}
        self._here: dict[UUID, _Endpoint] = {}
        self._unknown = 0

    @property
    def out(self) -> int:
        """How many attempts are under way."""
        return len(self._out)

    @property
    def waiting(self) -> int:
        """How many deliveries have no slot yet."""
        return len(self._waiting)

    @property
    def fast_free(self) -> int:
        return self.fast - len(self._quick)

    @property
    def slow_free(self) -> int:
        return self.slow - (len(self._out) - len(self._quick))

    def reserve(self, key: Hashable, endpoint_id: UUID) -> None:
        """A delivery has been claimed."""
        endpoint = self._waiting[key] = self._endpoint(endpoint_id)
        if not endpoint.here:
            self._here[endpoint_id] = endpoint
        endpoint.here += 1
        if endpoint.pace is None:
            endpoint.unknown += 1
            self._unknown += 1

    def may_start(self, key: Hashable) -> bool:
        """Whether there is a slot for it now."""
        endpoint = self._waiting[key]
        if endpoint.out >= self.limit_of(endpoint) or self._is_starting_enough():
            return False
        return (self.slow_free if endpoint.is_slow else self.fast_free) > 0

    def _is_starting_enough(self) -> bool:
        if len(self._out) < STARTS_IN_TICK:
            return False
        earlier = next(islice(reversed(self._out.values()), STARTS_IN_TICK - 1, None))
        return self._clock() - earlier.since < TICK

    def is_stuck(self, key: Hashable) -> bool:
        """Whether it waits for an endpoint that has turned slow: others could have its place."""
        return self._waiting[key].is_slow

    def start(self, key: Hashable) -> None:
        """An attempt goes out."""
        endpoint = self._waiting.pop(key)
        out = self._out[key] = _Out(endpoint, self._clock(), slow=endpoint.is_slow and self.slow_free > 0)
        if not out.slow:
            self._quick[key] = out
        endpoint.out += 1

    def drop(self, key: Hashable) -> None:
        """A delivery is given back without an attempt."""
        endpoint = self._waiting.pop(key, None)
        if endpoint is None:
            endpoint = self._back(key)
        self._gone(endpoint)
        if endpoint.unknown:
            endpoint.unknown -= 1
            self._unknown -= 1

    def end(self, key: Hashable, seconds: float, answered: bool, overloaded: bool = False) -> None:
        """An attempt has come to its end after so many seconds. `overloaded`: the receiver asked for relief."""
        endpoint = self._back(key)
        self._gone(endpoint)
        if overloaded:
            pace = Pace.HANGING
        elif seconds <= SLOW_AFTER:
            pace = Pace.QUICK
        else:
            pace = Pace.SLOW if answered else Pace.HANGING
        self._remember(endpoint, pace)

    def sort(self) -> None:
        """Give the fast slots back that attempts have held for too long."""
        now = self._clock()
        for key, out in list(self._quick.items()):
            if now - out.since <= SLOW_AFTER:
                break
            if not out.endpoint.is_slow:
                self._remember(out.endpoint, Pace.HANGING)
            if self.slow_free <= 0:
                break
            out.slow = True
            del self._quick[key]

    def _back(self, key: Hashable) -> _Endpoint:
        endpoint = self._out.pop(key).endpoint
        self._quick.pop(key, None)
        endpoint.out -= 1
        return endpoint

    def _gone(self, endpoint: _Endpoint) -> None:
        endpoint.here -= 1
        if not endpoint.here:
            del self._here[endpoint.id]

    def _endpoint(self, endpoint_id: UUID) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            if len(self._endpoints) >= REMEMBERED:
                self._endpoints = dict(self._here)
            endpoint = self._endpoints[endpoint_id] = _Endpoint(endpoint_id)
        return endpoint

    def _remember(self, endpoint: _Endpoint, pace: Pace) -> None:
        endpoint.pace = pace
        self._unknown -= endpoint.unknown
        endpoint.unknown = 0

    def room(self) -> "Room":
        """What could be claimed now."""
        return Room(self)

    def limit_of(self, endpoint: _Endpoint) -> int:
        """How many attempts at a time this endpoint gets now."""
        if endpoint.pace is None:
            return min(UNKNOWN_LIMIT, self.per_endpoint)
        return min(HANGING_LIMIT, self.per_endpoint) if endpoint.pace is Pace.HANGING else self.per_endpoint

    def reach_of(self, endpoint: _Endpoint) -> int:
        """How many of its deliveries may be here."""
        limit = self.limit_of(endpoint)
        return limit * AHEAD if self.ahead and endpoint.pace is Pace.QUICK else limit


class Room:
    """The free places, taken one by one as a claim chooses."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._taken: dict[UUID, int] = {}
        self._fast, self._slow = lanes.fast_free + lanes.ahead - lanes.waiting, lanes.slow_free
        # One at least: a worker with a single slot must get to know somebody, too.
        self._unknown = max(1, int(lanes.fast * UNKNOWN_SHARE)) - lanes._unknown

    def full(self) -> Collection[UUID]:
        """The endpoints of which there is something here and that get no more now."""
        return [id_ for id_, endpoint in self._lanes._here.items() if endpoint.here >= self._lanes.reach_of(endpoint)]

    def take(self, endpoint_id: UUID) -> bool:
        """Take a place for a delivery to this endpoint, if it has one."""
        endpoint = self._lanes._endpoint(endpoint_id)
        taken = self._taken.get(endpoint_id, 0)
        if endpoint.here + taken >= self._lanes.reach_of(endpoint):
            return False
        if endpoint.is_slow:
            if self._slow <= 0:
                return False
            self._slow -= 1
        else:
            is_unknown = endpoint.pace is None
            if self._fast <= 0 or (is_unknown and self._unknown <= 0):
                return False
            self._fast -= 1
            self._unknown -= is_unknown
        self._taken[endpoint_id] = taken + 1
        return True
