"""The checks of a deployment that a running system does not repeat: what is configured once and seldom breaks.

What may break at any time (database, worker, backlog, channel layer) is checked by `notifications.health`, for
`/readyz` too.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.core.checks import INFO, run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.models import Max
from django.utils import timezone

from helpdesk.celery import app
from helpdesk.management.diagnosis import webhooks
from helpdesk.management.diagnosis.redis_server import redis
from notifications import publishing_lock
from notifications.encryption import SecretUnreadable
from notifications.health import Check
from notifications.models import Event, WebhookEndpoint

LITTLE_SPACE = 500 * 1024 * 1024  # bytes: below this a busy day's attachments may fill the disk
CLOCK_TOLERANCE = timedelta(seconds=5)  # receivers refuse signatures that are minutes off; that much is no reason
BROKER_PATIENCE = 3  # seconds


def checks(*, database_answers: bool = True) -> Iterator[Check]:
    """Each check in the order in which one would look. A check that breaks is a finding, too.

    Without a database that answers, those that would wait for it are left out.
    """
    for name, check in _CHECKS.items():
        if not database_answers and name in _ASK_THE_DATABASE:
            continue
        try:
            yield check(name)
        except DatabaseError as error:
            yield Check(name, False, f"the database refused the question: {_first_line(error)}", "See “database”.")


def _settings(name: str) -> Check:
    found = run_checks(include_deployment_checks=settings.PRODUCTION)
    serious = [message for message in found if message.level > INFO and not message.is_silenced()]
    kind = "production" if settings.PRODUCTION else "development"
    if not serious:
        return Check(name, True, f"{kind}, nothing to object")
    first = serious[0]
    more = f" (and {len(serious) - 1} more: `manage.py check{' --deploy' * settings.PRODUCTION}`)"
    return Check(name, False, f"{first.id}: {_first_line(first.msg)}{more * (len(serious) > 1)}", first.hint or "")


def _public_url(name: str) -> Check:
    url = urlsplit(settings.PUBLIC_URL)
    detail, hint = settings.PUBLIC_URL, "Set PUBLIC_URL to the address people open, such as https://help.example.com"
    if url.scheme not in ("http", "https") or not url.hostname or url.path or url.query or url.fragment:
        return Check(name, False, f"{detail} is not scheme, host and port alone", hint)
    if settings.PRODUCTION and url.scheme != "https":
        return Check(name, False, f"{detail} is not encrypted", hint)
    allowed = settings.ALLOWED_HOSTS
    if not any(host in ("*", url.hostname) or (host[0] == "." and url.hostname.endswith(host)) for host in allowed):
        return Check(
            name, False, f"{url.hostname} is not in ALLOWED_HOSTS: every request is refused", "Add it to ALLOWED_HOSTS."
        )
    return Check(name, True, detail)


def _engine(name: str) -> Check:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT sqlite_version()")
            version = cursor.fetchone()[0]
            cursor.execute("PRAGMA journal_mode")
            mode = cursor.fetchone()[0]
            ok = mode in ("wal", "memory")
            return Check(
                name,
                ok,
                f"SQLite {version}, journal {mode}",
                "" if ok else "Write-ahead logging is off: is the file on a network drive? Move it to a local one.",
            )
        cursor.execute("SHOW server_version")  # Django refuses to connect to one that is too old
        return Check(name, True, f"PostgreSQL {cursor.fetchone()[0]}")


def broker(name: str = "broker") -> Check:
    """Whether Celery's broker takes a connection."""
    scheme = urlsplit(settings.CELERY_BROKER_URL).scheme
    kind = {"filesystem": "a folder", "redis": "Redis", "rediss": "Redis"}.get(scheme, "RabbitMQ")
    try:
        with app.connection_for_write(connect_timeout=BROKER_PATIENCE) as connected:
            connected.ensure_connection(max_retries=0, timeout=BROKER_PATIENCE)
    except Exception as error:  # whatever the broker's client raises
        hint = "Is CELERY_BROKER_URL (or REDIS_URL) right and the server running? Until then webhooks wait for a sweep."
        return Check(name, False, f"{kind} does not answer: {_first_line(error)}", hint)
    return Check(name, True, f"{kind} answers")


def _attachments(name: str) -> Check:
    probe = f"doctor-{uuid4().hex}"
    try:
        saved = default_storage.save(probe, ContentFile(b"probe"))
        try:
            with default_storage.open(saved) as file:
                intact = file.read() == b"probe"
        finally:
            default_storage.delete(saved)
    except Exception as error:  # whatever a storage's client raises
        return Check(
            name, False, f"cannot be written: {_first_line(error)}", "Who owns the folder, and is the disk full?"
        )
    folder = getattr(default_storage, "location", None)
    if not intact:
        return Check(name, False, "what was written was not read back", "Does something else use the same place?")
    if folder is None:
        return Check(name, True, "written, read and deleted")
    free = shutil.disk_usage(folder).free
    detail = f"{folder} is writable, {free / 1024**3:.1f} GiB are free"
    if free < LITTLE_SPACE:
        return Check(name, False, detail, "Make room: an upload that does not fit is refused.")
    return Check(name, True, detail)


def _encryption(name: str) -> Check:
    count = unreadable = 0
    for endpoint in WebhookEndpoint.objects.filter(deleted_at=None).iterator():
        count += 1
        try:
            endpoint.secrets()
            endpoint.headers()
        except SecretUnreadable:
            unreadable += 1
    if unreadable:
        return Check(
            name,
            False,
            f"what {unreadable} of {count} webhook endpoints keep secret cannot be opened: their deliveries fail",
            "Put the key they were written with back into FIELD_ENCRYPTION_KEYS (newest first), "
            "or let their owners set a new secret and their headers.",
        )
    if not count:
        return Check(name, True, "no webhook secret is stored yet")
    return Check(name, True, f"opened what {count} webhook endpoints keep secret")


def _clock(name: str) -> Check:
    now, hint = timezone.now(), "Keep the clock right with NTP: signatures and tokens carry the time."
    newest = Event.objects.aggregate(newest=Max("occurred_at"))["newest"]
    if newest and newest - now > CLOCK_TOLERANCE:
        return Check(name, False, f"it is {now:%Y-%m-%d %H:%M:%S} UTC, but the newest event is from later", hint)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            difference = abs(cursor.fetchone()[0] - timezone.now())
        if difference > CLOCK_TOLERANCE:
            return Check(name, False, f"{difference.total_seconds():.0f} s apart from the database server's", hint)
    return Check(name, True, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _sockets(name: str) -> Check:
    """How many processes serve sockets, as far as the database knows: each has a publisher, at work or standing by."""
    if connection.vendor != "postgresql":
        return Check(name, True, "one process serves them")
    count, _at_work = publishing_lock.sessions()
    if count < 2:
        return Check(name, True, f"{count or 'no'} process serves them")
    return Check(
        name,
        True,
        f"{count} processes serve them",
        "Socket.IO's long polling needs a proxy that keeps each client with one of them (sticky sessions, `ip_hash` in "
        "nginx), or clients with `transports: ['websocket']`. That cannot be seen from here.",
    )


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_CHECKS: dict[str, Callable[[str], Check]] = {
    "settings": _settings,
    "public URL": _public_url,
    "database engine": _engine,
    "broker": broker,
    "attachments": _attachments,
    "encryption keys": _encryption,
    "clock": _clock,
    "Redis": redis,
    "sockets": _sockets,
    "breakers": webhooks.breakers,
    "disabled endpoints": webhooks.disabled,
}
_ASK_THE_DATABASE = {"database engine", "encryption keys", "clock", "sockets", "breakers", "disabled endpoints"}
