"""Is every part of the deployment at work? One list of checks for /readyz, /metrics and `doctor`."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Min
from django.utils import timezone

from notifications.models import DeliveryState, Event, EventStream, WebhookDelivery, WorkerHeartbeat

# A worker beats every few seconds (the sweep, the engine); after this long without a beat it counts as dead.
WORKER_SILENCE = timedelta(seconds=30)
# Due for longer than this means that deliveries are not being sent, or far too few at a time.
BACKLOG_AGE = timedelta(minutes=5)
UNPUBLISHED_AGE = timedelta(seconds=30)


@dataclass(frozen=True)
class Check:
    """What was found of one part: whether it works, what was seen, and what to do if it does not."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def beat() -> None:
    """Say that a worker is alive. One row."""
    now = timezone.now()
    if not WorkerHeartbeat.objects.filter(pk=1).update(beat_at=now):
        WorkerHeartbeat.objects.bulk_create([WorkerHeartbeat(beat_at=now)], ignore_conflicts=True)


def oldest_due() -> timedelta | None:
    """How long the oldest due delivery has been waiting; None when nothing is due."""
    oldest = WebhookDelivery.objects.filter(
        state__in=(DeliveryState.PENDING, DeliveryState.RETRYING), next_attempt_at__lte=timezone.now()
    ).aggregate(oldest=Min("next_attempt_at"))["oldest"]
    return timezone.now() - oldest if oldest else None


@dataclass(frozen=True)
class Queues:
    """How much is waiting. Times are seconds; -1 where nothing has ever happened."""

    due: int
    waiting: int
    sending: int
    oldest_due_seconds: float
    worker_silence: float
    unpublished: int
    position: int


def queues() -> Queues:
    """The numbers that /metrics shows."""
    now = timezone.now()
    waiting = WebhookDelivery.objects.filter(state__in=(DeliveryState.PENDING, DeliveryState.RETRYING))
    age, beat_at = oldest_due(), WorkerHeartbeat.objects.values_list("beat_at", flat=True).first()
    return Queues(
        due=waiting.filter(next_attempt_at__lte=now).count(),
        waiting=waiting.count(),
        sending=WebhookDelivery.objects.filter(state=DeliveryState.SENDING).count(),
        oldest_due_seconds=age.total_seconds() if age else 0,
        worker_silence=(now - beat_at).total_seconds() if beat_at else -1,
        unpublished=Event.objects.filter(position=None).count(),
        position=EventStream.objects.values_list("last_position", flat=True).first() or 0,
    )


def checks() -> list[Check]:
    """Every check, in the order in which one would look; the ones that need the database only if it answers."""
    found = [_database()]
    if found[0].ok:
        found += [_migrations(), _worker(), _backlog(), _publisher()]
    return [*found, _channel_layer()]


def _database() -> Check:
    started = time.perf_counter()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Check("database", False, str(error).splitlines()[0], "Is DATABASE_URL right and the server running?")
    return Check("database", True, f"{connection.vendor} answers in {(time.perf_counter() - started) * 1000:.1f} ms")


def _migrations() -> Check:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        return Check("migrations", False, f"{len(missing)} are not applied", "Run `manage.py migrate`.")
    return Check("migrations", True, "all applied")


def _worker() -> Check:
    hint = "Start one: `celery -A helpdesk worker --pool threads --beat` (`make run` starts it by itself)."
    last = WorkerHeartbeat.objects.filter(pk=1).values_list("beat_at", flat=True).first()
    if last is None:
        return Check("worker", False, "no webhook worker has ever run", hint)
    silence = timezone.now() - last
    if silence > WORKER_SILENCE:
        return Check("worker", False, f"the last sign of life was {_span(silence)} ago", hint)
    return Check("worker", True, f"alive {_span(silence)} ago")


def _backlog() -> Check:
    age = oldest_due()
    if age is None:
        return Check("webhook backlog", True, "nothing is due")
    return Check(
        "webhook backlog",
        age <= BACKLOG_AGE,
        f"the oldest due delivery has been waiting for {_span(age)}",
        "" if age <= BACKLOG_AGE else "Is a worker running? If so, start more or raise WEBHOOK_CONCURRENCY.",
    )


def _publisher() -> Check:
    oldest = Event.objects.filter(position=None).aggregate(oldest=Min("occurred_at"))["oldest"]
    age = timezone.now() - oldest if oldest else timedelta()
    if age > UNPUBLISHED_AGE:
        return Check(
            "publisher",
            False,
            f"an event has been waiting for its place in the stream for {_span(age)}",
            "The publisher runs in the ASGI server: is one running?",
        )
    return Check("publisher", True, "every event has its place in the stream")


def _channel_layer() -> Check:
    hint = "Is REDIS_URL right and the server running?" if settings.REDIS_URL else ""
    try:
        async_to_sync(_round_trip)()
    except Exception as error:  # whatever a layer's backend raises
        return Check("channel layer", False, f"{type(error).__name__}: {error}", hint)
    return Check("channel layer", True, "Redis" if settings.REDIS_URL else "in process")


async def _round_trip() -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "health", "id": uuid4().hex})
    await asyncio.wait_for(layer.receive(channel), timeout=2)


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
