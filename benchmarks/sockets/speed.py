"""Messages a second of one core, and memory a connection: ours beside Node's `socket.io` and `ws`, and beside the
consumer of Channels' tutorial.

1,000 clients in one room, events of about 400 bytes. The next event is sent when the last client has the one before;
ours and what it is compared with by turns, each figure the median of the rounds. Ours signs people in and decides for
each whether they may see the event: 50 customers sit in the same room and must get nothing, which is checked. The
others know no rights.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from benchmarks.registry import Figure, benchmark, ratio_at_least, value_at_most
from benchmarks.run import Run
from benchmarks.sockets import serving
from benchmarks.sockets.audience import Audience, audience, on_the_clients_core, pins
from benchmarks.sockets.events import PRODUCT, TEXTBOOK
from benchmarks.sockets.fleet import Door, Fleet
from benchmarks.sockets.serving import Server

ROUNDS, EVENTS = 5, 25
SLOW_EVENTS = 6
"""In a round where what we compare with takes half a second for each."""
WARM_UP = 5
REST_SECONDS = 0.5
"""Before memory is read, and between turns."""


@dataclass
class Rates:
    """Messages a second, one of each a round."""

    paced: list[float] = field(default_factory=list)
    """One event at a time."""
    burst: list[float] = field(default_factory=list)
    """All at once."""
    processor: list[float] = field(default_factory=list)
    """One event at a time, by the second of processor time that the server used: what others do hardly changes it."""


@dataclass
class Comparison:
    events: int
    ours: Rates
    theirs: Rates
    kilobytes: float
    """Of the server's memory for each of our connections."""
    connections_per_second: float

    def figure(self) -> Figure:
        ours, theirs = self.ours, self.theirs
        by_processor = statistics.median(ours.processor) / statistics.median(theirs.processor)
        return Figure(
            statistics.median(ours.paced),
            statistics.median(theirs.paced),
            note=(
                f"{self.events} events at once: {statistics.median(ours.burst):,.0f} and "
                f"{statistics.median(theirs.burst):,.0f}; by the server's processor time × {by_processor:.2f}; "
                f"ours took {self.connections_per_second:,.0f} sign-ins a second"
            ),
        )


Serve = Callable[[Audience, int | None], AbstractContextManager[Server]]


def ours_on(server: tuple[str, ...]) -> Serve:
    return lambda people, core: serving.python(server, PRODUCT, people.environment(), core)


def _textbook(people: Audience, core: int | None) -> AbstractContextManager[Server]:
    return serving.python(serving.DAPHNE, TEXTBOOK, people.environment(), core)


def _node(kind: str) -> Serve:
    return lambda people, core: serving.node(kind, core)


@contextlib.contextmanager
def _comparison(run: Run, door: Door, ours: Serve, theirs: Serve, events: int = EVENTS) -> Iterator[Comparison]:
    people = run.use(audience)
    core = serving.SERVER_CORE if pins() else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_the_clients_core())
        baseline = stack.enter_context(theirs(people, core))
        theirs_fleet = stack.enter_context(contextlib.closing(Fleet(baseline.port, door, [None] * len(people.tokens))))
        server = stack.enter_context(ours(people, core))
        # They come first: what the process loads for its first connections belongs to no connection.
        strangers = stack.enter_context(contextlib.closing(Fleet(server.port, door, people.strangers)))
        time.sleep(REST_SECONDS)
        before = server.resident()
        fleet = stack.enter_context(contextlib.closing(Fleet(server.port, door, people.tokens)))
        time.sleep(REST_SECONDS)
        kilobytes = (server.resident() - before) / 1024 / len(people.tokens)
        found = Comparison(events, Rates(), Rates(), kilobytes, fleet.connections_per_second)
        turns = ((server, fleet, found.ours), (baseline, theirs_fleet, found.theirs))
        for each, its_fleet, _ in turns:
            _paced(each, its_fleet, WARM_UP)
        for number in range(ROUNDS):
            for each, its_fleet, rates in turns if number % 2 else reversed(turns):
                Fleet.rest(REST_SECONDS)
                used = each.processor_seconds()
                rates.paced.append(_paced(each, its_fleet, events))
                rates.processor.append(events * len(its_fleet.clients) / (each.processor_seconds() - used))
                rates.burst.append(_burst(each, its_fleet, events))
        strangers.idle(REST_SECONDS)  # raises if they saw anything
    yield found


def _paced(server: Server, fleet: Fleet, events: int) -> float:
    began = time.perf_counter()
    for _ in range(events):
        server.emit()
        ended = fleet.receive(len(fleet.clients))
    return events * len(fleet.clients) / (ended - began)


def _burst(server: Server, fleet: Fleet, events: int) -> float:
    began = time.perf_counter()
    server.emit(events)
    return events * len(fleet.clients) / (fleet.receive(events * len(fleet.clients)) - began)


def plain(run: Run) -> AbstractContextManager[Comparison]:
    return _comparison(run, "plain", ours_on(serving.UVICORN), _node("ws"))


def socketio(run: Run) -> AbstractContextManager[Comparison]:
    return _comparison(run, "socketio", ours_on(serving.UVICORN), _node("socketio"))


def daphne(run: Run) -> AbstractContextManager[Comparison]:
    return _comparison(run, "plain", ours_on(serving.DAPHNE), _textbook, SLOW_EVENTS)


_SPEEDS: dict[str, tuple[Callable[[Run], AbstractContextManager[Comparison]], str, float]] = {
    "sockets.socketio_vs_node": (socketio, "Node's socket.io, without sign-in and rights", 0.7),
    "sockets.plain_vs_node_ws": (plain, "Node's ws, without sign-in and rights", 0.7),
    "sockets.daphne_vs_textbook": (daphne, "Channels' tutorial on Daphne, without sign-in and rights", 5),
}
_MEMORY: dict[str, tuple[Callable[[Run], AbstractContextManager[Comparison]], float]] = {
    "sockets.kb_per_plain_connection": (plain, 30),
    "sockets.kb_per_socketio_connection": (socketio, 45),
}


def _register() -> None:
    for name, (comparison, baseline, bound) in _SPEEDS.items():
        benchmark(name, unit="messages/s", baseline=baseline, goal=ratio_at_least(bound))(
            partial(lambda run, of: run.use(of).figure(), of=comparison)
        )
    for name, (comparison, bound) in _MEMORY.items():
        benchmark(name, unit="KB", baseline="", goal=value_at_most(bound))(
            partial(lambda run, of: Figure(run.use(of).kilobytes), of=comparison)
        )


_register()


@benchmark(
    "sockets.finished_frame_us",
    unit="µs",
    baseline="each client's frame made anew by uvicorn, behind ASGI's send",
)
def finished_frame(run: Run) -> Figure:
    """What the private way to uvicorn's transport buys: the server's processor time for one event and client."""
    people = run.use(audience)
    core = serving.SERVER_CORE if pins() else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_the_clients_core())
        turns: list[tuple[Server, Fleet, list[float]]] = []
        for more in ({}, {"FRAMES": "sent"}):
            environment = {**people.environment(), **more}
            server = stack.enter_context(serving.python(serving.UVICORN, PRODUCT, environment, core))
            fleet = stack.enter_context(contextlib.closing(Fleet(server.port, "plain", people.tokens)))
            _paced(server, fleet, WARM_UP)
            turns.append((server, fleet, []))
        for number in range(ROUNDS):
            for server, fleet, found in turns if number % 2 else reversed(turns):
                Fleet.rest(REST_SECONDS)
                used = server.processor_seconds()
                _paced(server, fleet, EVENTS)
                found.append((server.processor_seconds() - used) / EVENTS / len(fleet.clients) * 1e6)
        finished, sent = (statistics.median(found) for _server, _fleet, found in turns)
    return Figure(finished, sent)
