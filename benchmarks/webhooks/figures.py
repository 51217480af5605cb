"""Deliveries a second: ours, the design everybody writes first, and `requests` with nothing around it.

Senders, the receiver and the database's processes for them share one core where the machine lets us pin them, so that
a figure is one of a core. Ours and what it is compared with are taken by turns; each figure is a median.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from django.db.models import Max
from django.utils import timezone

from benchmarks.registry import Figure, Skipped, benchmark, ratio_at_least, ratio_at_most, value_at_most
from benchmarks.report import REPOSITORY
from benchmarks.run import Run
from benchmarks.servers import free_port, redis
from benchmarks.webhooks import load
from benchmarks.webhooks.bench import LIMIT_SECONDS, Bench, pin, set_up
from comments.models import Comment
from helpdesk.accounts.models import User
from knowledge.models import Article, ArticleStatus
from notifications import expansion
from notifications.models import DeliveryState, Event, WebhookDelivery, WebhookEndpoint
from tickets.models import Ticket

ROUNDS = 3
OURS, NAIVE, BARE = 8_000, 1_200, 8_000
"""Deliveries in a round: some seconds each."""
ENDPOINTS = 100
HANGING = REFUSING = 0.05
"""The share of endpoints that never answer, and of those where nobody listens."""
HANGING_DEADLINE = "2"
"""Seconds, so that in a round of some ten attempts run out of time, are tried again, and breakers open."""
SMALL, LARGE = 1_000, 1_000_000
RECIPIENTS = 50_000
NAIVE_OPTIONS = ("-P", "prefork", "-c", "4", "--loglevel", "ERROR", "--without-gossip", "--without-mingle")


def small(run: Run) -> AbstractContextManager[Bench]:
    return set_up(run, "webhooks")


def _endpoints(bench: Bench, count: int = ENDPOINTS) -> list[WebhookEndpoint]:
    return load.endpoints(load.people(count), bench.hook)


def _ours(bench: Bench, receivers: list[WebhookEndpoint], count: int = OURS) -> float:
    """Deliveries a second of the engine."""
    load.due(receivers, count)
    return count / bench.engine_seconds()


def _naive(bench: Bench, receivers: list[WebhookEndpoint], broker: str) -> float:
    """Deliveries a second of one Celery task for each."""
    os.environ["BROKER_URL"] = broker
    from benchmarks.webhooks.naive import deliver

    load.due(receivers, NAIVE)
    waiting = WebhookDelivery.objects.filter(state=DeliveryState.PENDING)
    for id_ in waiting.values_list("pk", flat=True):
        deliver.delay(str(id_))
    began = timezone.now()
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "benchmarks.webhooks.naive", "worker", *NAIVE_OPTIONS],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "DATABASE_URL": bench.url,
            "DJANGO_SETTINGS_MODULE": "helpdesk.settings",
            "LOG_LEVEL": "ERROR",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=pin if bench.pins else None,
    )
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while waiting.exists():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the naive worker did not deliver")
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait()
    # Its start is not counted, nor are its first deliveries, which open connections.
    times = sorted(WebhookDelivery.objects.filter(delivered_at__gte=began).values_list("delivered_at", flat=True))
    measured = times[NAIVE // 10 :]
    return len(measured) / (measured[-1] - measured[0]).total_seconds()


@contextlib.contextmanager
def _rates(run: Run) -> Iterator[dict[str, float]]:
    """Deliveries a second: ours, naive, bare."""
    bench = run.use(small)
    receivers = _endpoints(bench)
    found: dict[str, list[float]] = {"ours": [], "naive": [], "bare": []}
    with redis(Path(run.folder)) as broker:
        if broker is None:
            raise Skipped("there is no redis-server")
        _ours(bench, receivers, 500)
        for _ in range(ROUNDS):
            found["ours"].append(_ours(bench, receivers))
            found["naive"].append(_naive(bench, receivers, broker))
            worker = bench.worker("bare", bench.hook, str(BARE))
            worker.go()
            found["bare"].append(BARE / worker.finish())
    yield {name: statistics.median(values) for name, values in found.items()}


@benchmark(
    "webhooks.deliveries_vs_naive",
    unit="deliveries/s",
    baseline="one Celery task each, ORM rows, prefork 4, connections kept",
    goal=ratio_at_least(5),
)
def deliveries_vs_naive(run: Run) -> Figure:
    rates = run.use(_rates)
    return Figure(rates["ours"], rates["naive"])


@benchmark(
    "webhooks.deliveries_vs_bare_requests",
    unit="deliveries/s",
    baseline="a `requests` session without any database",
    goal=ratio_at_least(1 / 2.5),
)
def deliveries_vs_bare_requests(run: Run) -> Figure:
    rates = run.use(_rates)
    return Figure(rates["ours"], rates["bare"])


@benchmark(
    "webhooks.time_in_requests_us",
    unit="µs",
    baseline="all of the worker's processor time for a delivery",
)
def time_in_requests(run: Run) -> Figure:
    """What of a delivery is `requests` and the guard in it; the note tells the other steps, and the bare session."""
    bench = run.use(small)
    load.due(_endpoints(bench), OURS)
    worker = bench.worker("steps", bench.hook)
    worker.go()
    steps = json.loads(worker.expect("{"))
    worker.finish()
    parts = ", ".join(f"{name} {steps[name]:.0f}" for name in ("claim", "sign", "post", "record", "rest"))
    alone = f"in one thread alone {steps['post alone']:.0f}, a bare session's {steps['bare alone']:.0f}"
    return Figure(steps["post"], steps["all"], f"{parts}; {alone}")


@benchmark(
    "webhooks.healthy_with_hanging_vs_clean",
    unit="deliveries/s",
    baseline="the same deliveries without the 5 % of endpoints that hang and the 5 % that refuse",
    goal=ratio_at_least(0.8),
)
def healthy_with_hanging_vs_clean(run: Run) -> Figure:
    bench = run.use(small)
    bad = round(ENDPOINTS * HANGING), round(ENDPOINTS * REFUSING)
    with_bad, clean = [], []
    for _ in range(ROUNDS):
        healthy = _endpoints(bench, ENDPOINTS - sum(bad))
        clean.append(_ours(bench, healthy))
        hanging = load.endpoints(load.people(bad[0]), f"{bench.hook}hang")
        refusing = load.endpoints(load.people(bad[1]), f"http://127.0.0.1:{free_port()}/")
        with_bad.append(_healthy(bench, healthy, hanging + refusing))
    return Figure(statistics.median(with_bad), statistics.median(clean))


def _healthy(bench: Bench, healthy: list[WebhookEndpoint], bad: list[WebhookEndpoint]) -> float:
    """Healthy deliveries a second while as many go to each bad endpoint as to each healthy one."""
    load.due(healthy + bad, OURS * len(healthy + bad) // len(healthy))
    waiting = WebhookDelivery.objects.filter(endpoint__in=healthy).exclude(state=DeliveryState.DELIVERED)
    worker = bench.worker("engine", WEBHOOK_DEADLINE_SECONDS=HANGING_DEADLINE)
    began = timezone.now()
    worker.go()
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while waiting.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the healthy endpoints were not served")
            time.sleep(0.2)
    finally:
        worker.kill()
    arrived = WebhookDelivery.objects.filter(endpoint__in=healthy, delivered_at__gte=began)
    count, latest = arrived.count(), arrived.aggregate(Max("delivered_at"))["delivered_at__max"]
    # The dead worker's, and what could not be delivered, are of no interest to the next round.
    WebhookEndpoint.objects.filter(pk__in=[endpoint.pk for endpoint in bad]).update(deleted_at=timezone.now())
    WebhookDelivery.objects.filter(endpoint__in=bad).update(
        state=DeliveryState.CANCELLED, next_attempt_at=None, lease_token=None, lease_until=None
    )
    return count / (latest - began).total_seconds()


@benchmark(
    "webhooks.history_1m_vs_1k",
    unit="deliveries/s",
    baseline="the same with a history of 1,000",
    goal=ratio_at_least(0.8),
)
def history_1m_vs_1k(run: Run) -> Figure:
    rates: dict[int, list[float]] = {SMALL: [], LARGE: []}
    for size in rates:
        # One after the other: each is alone on the machine, with the caches of its own size.
        with set_up(run, f"webhooks_{size}") as bench:
            load.history(size)
            receivers = _endpoints(bench)
            _ours(bench, receivers, 500)
            rates[size] = [_ours(bench, receivers) for _ in range(ROUNDS)]
    return Figure(statistics.median(rates[LARGE]), statistics.median(rates[SMALL]))


@dataclass
class Burst:
    recorded_seconds: float
    alone_ms: list[float]
    during_ms: list[float]


@contextlib.contextmanager
def _burst(run: Run) -> Iterator[Burst]:
    """An article for 50,000 readers with a webhook each, and single comments before and while it is expanded."""
    with set_up(run, "webhooks_burst") as bench:
        author, agent = load.people(2, "admin")
        requester = load.endpoints(load.people(1, "customer"), bench.hook)[0].owner
        ticket = Ticket.objects.create(title="The printer", description="It prints.", requester=requester)
        load.settle()
        worker = bench.worker("burst")
        worker.go()
        worker.expect("expanded")
        alone = [_one_comment(ticket, agent) for _ in range(20)]
        worker.kill()
        load.endpoints(load.people(RECIPIENTS, "customer"), bench.hook)
        load.settle()
        Article.objects.create(title="Printers", body="All about them.", author=author, status=ArticleStatus.PUBLISHED)
        worker = bench.worker("burst")
        event = Event.objects.get(expansion_pending=True)
        began = time.perf_counter()
        worker.go()
        during: list[float] = []
        while Event.objects.filter(pk=event.pk, expansion_pending=True).exists():
            during.append(_one_comment(ticket, agent))
            time.sleep(0.2)
        recorded = time.perf_counter() - began
        worker.kill()
    yield Burst(recorded, alone, during)


def _one_comment(ticket: Ticket, author: User) -> float:
    """Milliseconds from a comment's commit to its webhook's record."""
    comment = Comment.objects.create(ticket=ticket, author=author, content="It still prints.")
    written = timezone.now()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = WebhookDelivery.objects.filter(
            notification__related_id=comment.pk, state=DeliveryState.DELIVERED
        ).first()
        if found is not None and found.delivered_at is not None:
            return (found.delivered_at - written).total_seconds() * 1000
        time.sleep(0.01)
    raise RuntimeError("the single webhook did not arrive")


@benchmark(
    "webhooks.burst_50k_recorded_s",
    unit="s",
    baseline="",
    goal=value_at_most(30),
)
def burst_recorded(run: Run) -> Figure:
    return Figure(run.use(_burst).recorded_seconds)


@benchmark(
    "webhooks.single_during_burst_ms",
    unit="ms",
    baseline="what one batch of the burst takes",
    goal=ratio_at_most(1),
)
def single_during_burst(run: Run) -> Figure:
    burst = run.use(_burst)
    batch_ms = burst.recorded_seconds * 1000 / (RECIPIENTS / expansion.BATCH)
    note = (
        f"the slowest of {len(burst.during_ms)}; their median {statistics.median(burst.during_ms):.0f} ms, and while "
        f"nothing else happens {statistics.median(burst.alone_ms):.0f} ms"
    )
    return Figure(max(burst.during_ms), batch_ms, note)
