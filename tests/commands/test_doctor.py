"""`doctor`: each part is seen to work, and seen to be broken when it is."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from cryptography.fernet import Fernet
from django.db import connection
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from helpdesk.management.diagnosis import deployment
from notifications import health, publishing_lock, workers
from notifications.models import Event, Visibility, WebhookDelivery, WebhookEndpoint, Worker
from notifications.webhooks import endpoints
from tests.commands.shell import manage
from tests.live.conftest import unavailable
from tests.live.inbox import eventually
from tests.live.system import free_port

pytestmark = pytest.mark.django_db

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _worker(publisher_at_work):
    workers.beat(in_flight=3, concurrency=64, swept=True)


@pytest.fixture
def comment_due(ticket, customer, agent):
    """A delivery that is due now."""
    endpoints.create(customer, "http://127.0.0.1:9/hook")
    with acting_as(agent):
        Comment(ticket=ticket, author=agent, content="Hello").post()


def found(name: str) -> health.Check:
    """What the doctor found of one part."""
    checks = {check["name"]: check for check in json.loads(manage("doctor", "--json").out)["checks"]}
    return health.Check(**checks[name])


def test_a_sound_deployment():
    ended = manage("doctor")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == len(deployment._CHECKS) + len(health.checks())
    assert all(line.startswith("ok ") for line in lines), ended.out
    assert json.loads(manage("doctor", "--json").out)["ok"] is True


def test_a_fault_is_said_with_what_to_do(settings):
    settings.PUBLIC_URL = "help.example.com"
    ended = manage("doctor")
    assert ended.code == 1
    [fault] = [index for index, line in enumerate(ended.out.splitlines()) if line.startswith("FAIL")]
    assert ended.out.splitlines()[fault + 1].strip().startswith("→ Set PUBLIC_URL")


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("help.example.com", "help.example.com is not scheme, host and port alone"),
        ("https://help.example.com/desk", "https://help.example.com/desk is not scheme, host and port alone"),
        ("http://help.example.com", "http://help.example.com is not encrypted"),
        ("https://other.example.com", "other.example.com is not in ALLOWED_HOSTS: every request is refused"),
    ],
)
def test_public_url(settings, url, detail):
    settings.PRODUCTION, settings.ALLOWED_HOSTS = True, ["help.example.com"]
    settings.PUBLIC_URL = "https://help.example.com"
    assert found("public URL").ok
    settings.PUBLIC_URL = url
    check = found("public URL")
    assert (check.ok, check.detail) == (False, detail)


def test_settings_are_those_of_a_deployment(settings):
    settings.PRODUCTION, settings.SECRET_KEY = True, "short"
    check = found("settings")
    assert not check.ok
    assert check.detail.startswith("security.W")
    assert check.hint or "more: `manage.py check --deploy`" in check.detail


def test_broker(monkeypatch):
    monkeypatch.setattr(deployment, "app", Celery(broker="redis://127.0.0.1:1/0", set_as_current=False))
    check = found("broker")
    assert not check.ok
    assert "does not answer" in check.detail


def test_attachments_that_cannot_be_written(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "file"
    settings.MEDIA_ROOT.write_text("in the way")
    check = found("attachments")
    assert (check.ok, check.detail.split(":")[0]) == (False, "cannot be written")


def test_attachments_with_little_space(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(deployment.shutil, "disk_usage", lambda folder: usage(10**9, 9 * 10**8, 10**8))
    check = found("attachments")
    assert not check.ok
    assert check.detail.endswith("0.1 GiB are free")


def test_the_probe_leaves_nothing_behind(settings):
    found("attachments")
    assert list(settings.MEDIA_ROOT.iterdir()) == []


def test_encryption_keys(settings, admin):
    endpoint = WebhookEndpoint(owner=admin, url="https://hooks.example.com/")
    endpoint.set_secret("whsec_dGVzdC10ZXN0LXRlc3QtdGVzdA==")
    endpoint.save()
    assert found("encryption keys") == health.Check(
        "encryption keys", True, "opened what 1 webhook endpoints keep secret"
    )
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    check = found("encryption keys")
    assert (check.ok, check.detail) == (
        False,
        "what 1 of 1 webhook endpoints keep secret cannot be opened: their deliveries fail",
    )


def test_a_clock_that_went_back():
    later = timezone.now() + timedelta(hours=1)
    Event(
        occurred_at=later, entity="ticket", action="created", entity_id=health.uuid4(), visibility=Visibility.STAFF
    ).save()
    assert not found("clock").ok


def test_no_worker_is_alive():
    assert found("worker").detail == f"{workers.own_name()} at work, sending 3 of 64 webhooks at once"
    Worker.objects.update(beat_at=timezone.now() - timedelta(minutes=50))
    check = found("worker")
    assert not check.ok
    assert check.detail == f"no webhook worker is alive; the last sign of life: {workers.own_name()} 50 min ago"
    assert "celery -A helpdesk worker" in check.hint
    Worker.objects.all().delete()
    assert found("worker").detail == "no webhook worker is running"


def test_a_worker_that_was_killed_beside_others():
    now = timezone.now()
    gone = Worker(name="host2:99", version="0.1.0", started_at=now, beat_at=now - timedelta(minutes=4))
    gone.save()
    check = found("worker")
    assert check.ok
    assert check.detail.endswith("; silent: host2:99 4 min ago")
    assert "sent again by the others" in check.hint
    [line] = [line for line in manage("doctor").out.splitlines() if "host2:99" in line]
    assert line.startswith("note")


def test_a_clock_that_stopped():
    assert found("worker's clock").ok
    Worker.objects.update(swept_at=timezone.now() - timedelta(minutes=2))
    check = found("worker's clock")
    assert (check.ok, check.detail) == (False, "it last rang 2 min ago")
    assert "celery -A helpdesk beat" in check.hint


def test_a_backlog(comment_due):
    assert found("webhook backlog").ok
    WebhookDelivery.objects.update(next_attempt_at=timezone.now() - timedelta(minutes=20))
    check = found("webhook backlog")
    assert (check.ok, check.detail) == (False, "the oldest due delivery has been waiting for 20 min")


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)  # within a transaction the list of sessions stays as it was first seen
def test_a_publisher_that_is_gone(publisher_at_work):
    assert found("publisher").detail == "at work"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
            "AND datname = current_database()",
            [publishing_lock.SESSION_NAME],
        )
    eventually(lambda: publishing_lock.sessions() == (0, False), "the session has ended")
    check = found("publisher")
    assert not check.ok
    assert "sockets' process" in check.hint


def test_endpoints_that_get_nothing_are_named_and_are_no_fault(agent):
    now = timezone.now()
    for number in range(7):
        endpoint, _ = endpoints.create(agent, f"http://127.0.0.{number + 1}:9/secret-path")
        fields = {"breaker": "open", "breaker_until": now + timedelta(minutes=9), "last_failure": "answered 503"}
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)
    endpoints.disable(endpoint, "It answered 410 Gone: it does not want webhooks any more.")
    ended = manage("doctor")
    assert ended.code == 0
    assert "secret-path" not in ended.out
    check = found("breakers")
    assert check.ok
    assert check.detail.startswith("7 open: 127.0.0.1 of agent (answered 503; next try at ")
    assert check.detail.endswith(" and 2 more")
    assert found("disabled endpoints").detail == (
        "1: 127.0.0.7 of agent (It answered 410 Gone: it does not want webhooks any more)"
    )


class Redis:
    """A Redis of the test's own."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self._command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options]

    def __enter__(self) -> str:
        if not shutil.which("redis-server"):
            unavailable("redis-server is not installed")
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, cwd="/")
        eventually(lambda: not self._process.poll() and self._listens(), "Redis listens")
        return f"redis://127.0.0.1:{self.port}/0"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.parametrize(
    ("options", "ok", "detail", "hint"),
    [
        ([], True, "without a limit", ""),
        (["--maxmemory", "200mb"], True, "of 200, noeviction", ""),
        (["--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"], True, "of 200, allkeys-lru", "noeviction"),
        (["--maxmemory", "800kb"], False, "of 1, noeviction", "Raise maxmemory"),
    ],
    ids=["no limit", "a limit", "evicts", "full"],
)
def test_redis(settings, options, ok, detail, hint):
    with Redis(*options) as settings.REDIS_URL:
        check = found("Redis")
    assert check.ok is ok, check
    assert check.detail.endswith(detail)
    assert hint in check.hint
    assert bool(hint) == bool(check.hint)


def test_a_redis_that_does_not_answer(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    check = found("Redis")
    assert not check.ok
    assert check.detail.startswith("does not answer: ")


def test_a_database_that_is_frozen(tmp_path):
    """It takes the connection and says nothing, for ever: the doctor says so, and ends."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "manage.py", "doctor", "--json"],
            cwd=REPOSITORY,
            env={**os.environ, "DATABASE_URL": f"postgres://nobody@127.0.0.1:{port}/none", "DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    checks = {check["name"]: check for check in json.loads(ended.stdout)["checks"]}
    assert [name for name, check in checks.items() if not check["ok"]] == ["database"]
    assert checks["database"]["detail"] == "no answer within 3 s"


def test_a_database_that_does_not_answer(tmp_path):
    """In a process of its own: this one's database is the test's."""
    ended = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    answer = json.loads(ended.stdout)
    faults = {check["name"] for check in answer["checks"] if not check["ok"]}
    assert answer["ok"] is False
    assert faults == {
        *("database", "database engine", "encryption keys", "clock"),
        *("sockets", "breakers", "disabled endpoints"),
    }
