"""Many connections in one process, and one audience spread over several."""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from channels_redis.pubsub import RedisPubSubChannelLayer

from benchmarks.registry import Figure, Skipped, benchmark, ratio_at_least, value_at_least
from benchmarks.run import Run
from benchmarks.servers import redis
from benchmarks.sockets import serving
from benchmarks.sockets.audience import audience, on_the_clients_core, pins
from benchmarks.sockets.events import PRODUCT, Stream
from benchmarks.sockets.fleet import Fleet
from helpdesk.settings import backends
from notifications.stream import STREAM_GROUP

IDLE, TABS = 10_000, 10
"""So many connections, ten of each person."""
IDLE_SECONDS = 10.0
DESCRIPTORS = 200
"""Files that a process needs besides its connections."""
PROCESSES = 4
ROUNDS, EVENTS = 5, 20
MANY_CORES = 6
"""Four servers, the clients and Redis: with so many cores they do not take turns."""


@benchmark(
    "sockets.idle_10k",
    unit="connections",
    baseline="",
    goal=value_at_least(IDLE),
)
def idle(run: Run) -> Figure:
    """Connections that one uvicorn process holds: all are signed in, and at the end one event reaches each."""
    _allow_descriptors(IDLE + DESCRIPTORS)
    people = run.use(audience)
    core = serving.SERVER_CORE if pins() else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_the_clients_core())
        server = stack.enter_context(serving.python(serving.UVICORN, PRODUCT, people.environment(), core))
        before = server.resident()
        fleet = stack.enter_context(contextlib.closing(Fleet(server.port, "plain", (people.tokens * TABS)[:IDLE])))
        used, began = server.processor_seconds(), time.perf_counter()
        Fleet.rest(IDLE_SECONDS)
        load = (server.processor_seconds() - used) / (time.perf_counter() - began)
        kilobytes = (server.resident() - before) / 1024 / IDLE
        began = time.perf_counter()
        server.emit()
        last = fleet.receive(IDLE) - began
        return Figure(
            len(fleet.clients),
            note=(
                f"{fleet.connections_per_second:,.0f} sign-ins a second; idle they use {load:.0%} of a core and "
                f"{kilobytes:.1f} KB each; the last of them has an event after {last * 1000:,.0f} ms"
            ),
        )


def _allow_descriptors(count: int) -> None:
    """Raise this process's limit of open files, which its children inherit. Skipped where that is not allowed."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Skipped(f"a process may open {hard:,} files, and {count:,} are needed (ulimit -n)")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@contextlib.contextmanager
def _spread(run: Run, processes: int, redis_url: str, layer: "Layer") -> Iterator[float]:
    """Messages a second when the clients are spread over so many processes: the median of the rounds."""
    people = run.use(audience)
    layer.keep()
    with contextlib.ExitStack() as stack:
        fleets = []
        for number in range(processes):
            environment = people.environment(redis_url)
            server = stack.enter_context(serving.python(serving.UVICORN, PRODUCT, environment, None))
            fleets.append((server, people.tokens[number::processes]))
        connected = [
            stack.enter_context(contextlib.closing(Fleet(server.port, "plain", tokens))) for server, tokens in fleets
        ]
        everybody = stack.enter_context(contextlib.closing(Fleet.together(connected)))
        rates = []
        for _ in range(ROUNDS + 1):
            Fleet.rest(0.3)
            began = time.perf_counter()
            layer.emit(EVENTS)
            count = EVENTS * len(everybody.clients)
            rates.append(count / (everybody.receive(count) - began))
        yield statistics.median(rates[1:])


class Layer:
    """Sends events from outside, as a publisher in another process does."""

    def __init__(self, redis_url: str) -> None:
        self._layer = RedisPubSubChannelLayer(**backends.channel_layer(redis_url)["CONFIG"])
        self._runner = asyncio.Runner()
        self._stream = Stream()

    def emit(self, count: int) -> None:
        self._runner.run(self._send(self._stream.next(count)))

    def keep(self) -> None:
        """New servers begin where this has come."""
        self._stream.keep()

    async def _send(self, messages: list[dict]) -> None:
        for message in messages:
            await self._layer.group_send(STREAM_GROUP, message)

    def close(self) -> None:
        self._runner.run(self._layer.flush())
        self._runner.close()


@benchmark(
    "sockets.redis_4_processes_vs_1",
    unit="messages/s",
    baseline="one process with all of the clients, on the same Redis",
    goal=ratio_at_least(3) if (os.cpu_count() or 1) >= MANY_CORES else None,
)
def redis_processes(run: Run) -> Figure:
    if run.postgresql is None:
        raise Skipped("several processes need PostgreSQL")
    with redis(Path(run.folder)) as redis_url:
        if redis_url is None:
            raise Skipped("there is no redis-server")
        run.use(audience)  # whose database the stream is in
        with contextlib.closing(Layer(redis_url)) as layer:
            with _spread(run, 1, redis_url, layer) as one:
                pass
            with _spread(run, PROCESSES, redis_url, layer) as several:
                pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ideal = min(PROCESSES, cores)
    return Figure(
        several,
        one,
        note=(
            f"{several / one / ideal:.2f} of the ideal × {ideal} on {cores} cores, which the clients and Redis share"
        ),
    )
