"""A publisher dies: until what is committed then has reached a client of another process."""

import contextlib
import time
from pathlib import Path

from benchmarks.registry import Figure, Skipped, benchmark, value_at_most
from benchmarks.run import Run
from benchmarks.servers import redis
from benchmarks.sockets import serving
from benchmarks.sockets.audience import Audience, audience
from benchmarks.sockets.events import PRODUCT, TEXT
from benchmarks.sockets.fleet import Fleet
from comments.models import Comment
from notifications import publishing_lock
from tickets.models import Ticket

ROUNDS = 5
STANDS_BY_WITHIN = 30.0
"""Seconds in which a process that was started has its publisher."""


@benchmark(
    "sockets.publisher_taken_over_s",
    unit="s",
    baseline="",
    goal=value_at_most(3),
)
def taken_over(run: Run) -> Figure:
    """Two uvicorn processes on one Redis; the one that publishes is killed. The longest of five times."""
    if run.postgresql is None:
        raise Skipped("several processes need PostgreSQL")
    people = run.use(audience)
    with contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(redis(Path(run.folder)))
        if redis_url is None:
            raise Skipped("there is no redis-server")
        ticket = Ticket(title="Who tells us now?", description="Somebody.", requester=people.customers[0])
        ticket.save()

        def server(already: int) -> serving.Server:
            started = stack.enter_context(serving.python(serving.UVICORN, PRODUCT, people.environment(redis_url), None))
            _wait_for_publishers(already + 1)
            return started

        publishing = server(0)
        times = []
        for _ in range(ROUNDS):
            standing_by = server(1)
            times.append(_time_without(publishing, standing_by, ticket, people))
            publishing = standing_by
    return Figure(max(times), note=f"the shortest {min(times):.2f} s; an idle one tries once a second")


def _time_without(publishing: serving.Server, standing_by: serving.Server, ticket: Ticket, people: Audience) -> float:
    """Seconds from the death of one to the arrival, at a client of the other, of what was committed next."""
    with contextlib.closing(Fleet(standing_by.port, "plain", people.tokens[:1])) as fleet:
        publishing.process.kill()
        began = time.perf_counter()
        Comment(ticket=ticket, author=people.agents[0], content=TEXT).post()
        return fleet.receive(1) - began


def _wait_for_publishers(count: int) -> None:
    deadline = time.monotonic() + STANDS_BY_WITHIN
    while publishing_lock.sessions() != (count, True):
        if time.monotonic() > deadline:
            raise RuntimeError(f"there are not {count} publishers, of which one publishes")
        time.sleep(0.05)
