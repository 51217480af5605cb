"""What clients that never read cost those that do."""

import contextlib
import statistics
import time
from collections.abc import Iterator

from benchmarks.measuring import percentile
from benchmarks.registry import Figure, benchmark, ratio_at_most
from benchmarks.run import Run
from benchmarks.sockets import serving
from benchmarks.sockets.audience import audience, on_the_clients_core, pins
from benchmarks.sockets.events import PRODUCT
from benchmarks.sockets.fleet import EVENT_BYTES, Fleet, silent
from benchmarks.sockets.serving import Server

HEALTHY, SLOW = 500, 20
ROUNDS, EVENTS = 5, 100
FILL = 600
"""Events sent before a slow round is measured: more than the kernel's buffers hold, less than an outbox."""


def _p99(server: Server, fleet: Fleet) -> float:
    """Milliseconds from the order to send an event to its arrival, of all events and clients."""
    delays: list[float] = []
    for _ in range(EVENTS):
        began = time.perf_counter()
        server.emit()
        arrivals: list[float] = []
        fleet.receive(len(fleet.clients), arrivals)
        delays += [(arrived - began) * 1000 for arrived in arrivals]
    return percentile(delays, 99)


@contextlib.contextmanager
def _delays(run: Run) -> Iterator[tuple[list[float], list[float]]]:
    """With slow clients, and without."""
    people = run.use(audience)
    core = serving.SERVER_CORE if pins() else None
    with_slow: list[float] = []
    clean: list[float] = []
    with (
        on_the_clients_core(),
        serving.python(serving.UVICORN, PRODUCT, people.environment(), core) as server,
        contextlib.closing(Fleet(server.port, "plain", people.tokens[:HEALTHY])) as fleet,
    ):
        _p99(server, fleet)
        for _ in range(ROUNDS):
            clean.append(_p99(server, fleet))
            with silent(server.port, people.tokens[-SLOW:]) as slow:
                server.emit(FILL)
                fleet.receive(HEALTHY * FILL)
                with_slow.append(_p99(server, fleet))
                if max(client.unread_bytes() for client in slow) > FILL * EVENT_BYTES / 2:
                    raise RuntimeError("a client that was to be slow has all that was sent")
    yield with_slow, clean


@benchmark(
    "sockets.healthy_p99_with_slow_vs_clean",
    unit="ms",
    baseline="the same clients without the slow ones",
    goal=ratio_at_most(1.5),
)
def healthy_with_slow(run: Run) -> Figure:
    with_slow, clean = run.use(_delays)
    return Figure(
        statistics.median(with_slow),
        statistics.median(clean),
        note=f"99 % of the events reached {HEALTHY} clients so soon, beside {SLOW} that never read",
    )
