"""Is every part of the deployment at work? One list of checks for /readyz and `doctor`."""

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

from notifications import publishing_lock, workers
from notifications.models import DeliveryState, Event, WebhookDelivery
from notifications.patience import Question

# Due for longer than this means that deliveries are not being sent, or far too few at a time.
BACKLOG_AGE = timedelta(minutes=5)
UNPUBLISHED_AGE = timedelta(seconds=30)
# A part that takes longer than this to answer, seconds, is not at work, whatever it would say in the end.
PATIENCE = 3.0


@dataclass(frozen=True)
class Check:
    """What was found of one part: whether it works, what was seen, and what to do.

    A part that works may have a hint, too: something to know or to look at, and no reason for an alarm.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


def oldest_due() -> timedelta | None:
    """How long the oldest due delivery has been waiting; None when nothing is due."""
    oldest = WebhookDelivery.objects.filter(
        state__in=(DeliveryState.PENDING, DeliveryState.RETRYING), next_attempt_at__lte=timezone.now()
    ).aggregate(oldest=Min("next_attempt_at"))["oldest"]
    return timezone.now() - oldest if oldest else None


def checks() -> list[Check]:
    """Every check, in the order in which one would look; the ones that need the database only if it answers."""
    return [*of_database(), *of_channel_layer()]


def of_database() -> list[Check]:
    found = [_database()]
    if found[0].ok:
        found += [_migrations(), _worker(), _clock(), _backlog(), _publisher()]
    return found


def of_channel_layer() -> list[Check]:
    return [_channel_layer()]


# Each in a thread of its own: a server that is frozen answers nothing, and its client would wait for ever.
_questions = {"database": Question(of_database), "channel layer": Question(of_channel_layer)}


def checks_in_time(patience: float = PATIENCE) -> list[Check]:
    """Every check, within `patience` seconds. A part that has not answered by then counts as not at work."""
    deadline = time.monotonic() + patience
    for question in _questions.values():
        question.ask()
    found: list[Check] = []
    for name, question in _questions.items():
        answer = question.answer(deadline - time.monotonic())
        found += answer if answer is not None else [Check(name, False, f"no answer within {patience:g} s")]
    return found


_reachable = Question(lambda: _database())


def database_answers(patience: float = PATIENCE) -> bool:
    """Whether the database answers at all, be it with an error. One that is frozen would hold up whoever asks it."""
    _reachable.ask()
    return _reachable.answer(patience) is not None


def without_database(patience: float = PATIENCE) -> list[Check]:
    """The checks that are left when the database does not answer, and one that says so."""
    hint = "It takes connections and says nothing: is the server frozen, or a firewall in between?"
    return [Check("database", False, f"no answer within {patience:g} s", hint), *of_channel_layer()]


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
    known = workers.known()
    if known.alive:
        busy, room = sum(w.in_flight for w in known.alive), sum(w.concurrency for w in known.alive)
        detail = f"{_named([w.name for w in known.alive])} at work, sending {busy} of {room} webhooks at once"
        if not known.silent:
            return Check("worker", True, detail)
        return Check(
            "worker",
            True,
            f"{detail}; silent: {_silent(known)}",
            "A silent one was killed or is frozen. What it was sending is sent again by the others. "
            "One that does not come back is forgotten after an hour.",
        )
    if not known.silent:
        return Check("worker", False, "no webhook worker is running", hint)
    return Check(
        "worker",
        False,
        f"no webhook worker is alive; the last sign of life: {_silent(known)}",
        f"Webhooks and announcements wait until one is there. Look into its log, and start it again. {hint}",
    )


def _silent(known: workers.Workers) -> str:
    now = timezone.now()
    return _named([f"{w.name} {_span(now - w.beat_at)} ago" for w in sorted(known.silent, key=lambda w: w.beat_at)])


def _named(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _clock() -> Check:
    """Whether somebody looks every few seconds for what no bell has told: retries above all."""
    swept_at = workers.known().swept_at
    hint = "Start one: `celery -A helpdesk beat`, or add `--beat` to one worker. Without it retries wait."
    if swept_at is None:
        return Check("worker's clock", False, "it has not rung since the workers started", hint)
    age = timezone.now() - swept_at
    if age > workers.SILENCE:
        return Check("worker's clock", False, f"it last rang {_span(age)} ago", hint)
    return Check("worker's clock", True, f"rang {_span(age)} ago")


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


def oldest_unpublished() -> timedelta | None:
    """How long the oldest event has been waiting for its place in the stream; None when none is."""
    oldest = Event.objects.filter(position=None).aggregate(oldest=Min("occurred_at"))["oldest"]
    return timezone.now() - oldest if oldest else None


def _publisher() -> Check:
    hint = "The publisher runs in the ASGI server (the sockets' process): is one running, and what does its log say?"
    age = oldest_unpublished()
    if connection.vendor == "postgresql":
        count, at_work = publishing_lock.sessions()
        if not count:
            return Check("publisher", False, "none is running: nothing comes live, and the feed stands still", hint)
        if at_work and (age is None or age <= UNPUBLISHED_AGE):
            return Check("publisher", True, f"at work, {count - 1} standing by" if count > 1 else "at work")
    if age is not None and age > UNPUBLISHED_AGE:
        return Check(
            "publisher", False, f"an event has been waiting for its place in the stream for {_span(age)}", hint
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
    async with asyncio.timeout(2):  # sending waits as well when the server is frozen
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "health", "id": uuid4().hex})
        await layer.receive(channel)


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
