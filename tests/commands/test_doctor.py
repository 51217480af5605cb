"""`doctor`: each part is seen to work, and seen to be broken when it is."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from cryptography.fernet import Fernet
from django.utils import timezone

from helpdesk.management.diagnosis import deployment
from notifications import health
from notifications.models import Event, Visibility, WebhookEndpoint
from tests.commands.shell import manage

pytestmark = pytest.mark.django_db

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _worker():
    health.beat()


def found(name: str) -> health.Check:
    """What the doctor found of one part."""
    checks = {check["name"]: check for check in json.loads(manage("doctor", "--json").out)["checks"]}
    return health.Check(**checks[name])


def test_a_sound_deployment():
    ended = manage("doctor")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == 13
    assert all(line.startswith("ok ") for line in lines)
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
    assert found("encryption keys") == health.Check("encryption keys", True, "1 webhook secrets can be opened")
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    check = found("encryption keys")
    assert (check.ok, check.detail) == (
        False,
        "1 of 1 webhook secrets cannot be opened: their deliveries fail",
    )


def test_a_clock_that_went_back():
    later = timezone.now() + timedelta(hours=1)
    Event(
        occurred_at=later, entity="ticket", action="created", entity_id=health.uuid4(), visibility=Visibility.STAFF
    ).save()
    assert not found("clock").ok


def test_the_running_parts_are_looked_at_too():
    health.WorkerHeartbeat.objects.update(beat_at=timezone.now() - timedelta(hours=2))
    check = found("worker")
    assert not check.ok
    assert "2 h ago" in check.detail


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
    assert faults == {"database", "database engine", "encryption keys", "clock"}
