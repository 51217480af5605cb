"""From a change's commit to the clients: publisher, channel layer, hub and sockets."""

import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from django.db import transaction

from benchmarks.measuring import percentile
from benchmarks.registry import Figure, Skipped, benchmark, value_at_most
from benchmarks.run import Run
from benchmarks.servers import redis
from benchmarks.sockets import serving
from benchmarks.sockets.audience import CLIENTS, Audience, audience, token
from benchmarks.sockets.events import PRODUCT, TEXT
from benchmarks.sockets.fleet import Fleet, single
from benchmarks.sockets.serving import Server
from benchmarks.webhooks import load
from comments.models import Comment
from tickets.models import Ticket

COMMENTS, WARM_UP = 200, 20
DEACTIVATED = 50
PAUSE = (0.03, 0.13)
"""Seconds between two comments: uneven, so that nothing that looks every so often falls into step with them."""


@contextlib.contextmanager
def _shown_to_everybody(run: Run, people: Audience) -> Iterator[tuple[Server, Fleet, Ticket]]:
    """A ticket, and agents at one server who see what happens to it; on Redis where it is there."""
    ticket = Ticket(title="How soon am I told?", description="Soon.", requester=people.customers[0])
    ticket.save()
    with (
        redis(Path(run.folder)) as redis_url,
        serving.python(serving.UVICORN, PRODUCT, people.environment(redis_url or ""), None) as server,
        contextlib.closing(Fleet(server.port, "plain", people.tokens)) as fleet,
    ):
        yield server, fleet, ticket


@benchmark(
    "sockets.commit_to_last_of_1000_p99_ms",
    unit="ms",
    baseline="",
    goal=value_at_most(100),
)
def commit_to_last(run: Run) -> Figure:
    """An agent comments; 1,000 agents are shown it. On PostgreSQL, and on Redis where it is there.

    Counted from before the COMMIT, so that the commit itself is in it.
    """
    if run.postgresql is None:
        raise Skipped("on SQLite only what the server itself commits wakes its publisher at once (told.socket_event)")
    people = run.use(audience)
    pause, delays, firsts = random.Random(4), [], []
    with _shown_to_everybody(run, people) as (_server, fleet, ticket):
        for number in range(WARM_UP + COMMENTS):
            Fleet.rest(pause.uniform(*PAUSE))
            arrivals: list[float] = []
            with transaction.atomic():
                Comment(ticket=ticket, author=people.agents[0], content=f"{TEXT} {number}").post()
                began = time.perf_counter()
            last = fleet.receive(CLIENTS, arrivals)
            delays.append((last - began) * 1000)
            firsts.append((arrivals[0] - began) * 1000)
    return Figure(
        percentile(delays[WARM_UP:], 99),
        note=(
            f"median {statistics.median(delays[WARM_UP:]):.0f} ms, of which "
            f"{statistics.median(firsts[WARM_UP:]):.0f} ms until the first has it"
        ),
    )


@benchmark(
    "sockets.revoked_p99_ms",
    unit="ms",
    baseline="",
    goal=value_at_most(1_000),
)
def revoked(run: Run) -> Figure:
    """Somebody is deactivated right after a comment that 1,000 others are shown; until their connection is closed.

    Counted from before the COMMIT. What comes between is what the stream has before it.
    """
    if run.postgresql is None:
        raise Skipped("on SQLite only what the server itself commits wakes its publisher at once (told.socket_event)")
    people = run.use(audience)
    leaving = load.people(DEACTIVATED)
    pause, delays = random.Random(4), []
    with (
        _shown_to_everybody(run, people) as (server, fleet, ticket),
        single(server.port, [token(person) for person in leaving]) as clients,
    ):
        for person, client in zip(leaving, clients, strict=True):
            Fleet.rest(pause.uniform(*PAUSE))
            Comment(ticket=ticket, author=people.agents[0], content=TEXT).post()
            with transaction.atomic():
                person.is_active = False
                person.save()
                began = time.perf_counter()
            delays.append((client.closed() - began) * 1000)
            fleet.receive(CLIENTS)
    return Figure(percentile(delays, 99), note=f"median {statistics.median(delays):.0f} ms")
