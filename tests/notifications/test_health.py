"""What load balancers and monitoring are told."""

import os
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from channels.layers import channel_layers
from django.utils import timezone

from notifications import health, workers
from notifications.models import Worker
from notifications.patience import Question

pytestmark = pytest.mark.django_db(transaction=True)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_alive_says_nothing_of_what_it_depends_on(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_knows_a_dead_worker(client, publisher_at_work):
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["worker"]) == (503, False)
    workers.beat(swept=True)
    assert client.get("/readyz").json()["status"] == "ok"
    Worker.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    assert client.get("/readyz").json()["checks"]["worker"] is False


def test_one_worker_of_two_is_enough(client, publisher_at_work):
    now = timezone.now()
    workers.beat(swept=True)
    Worker.objects.create(name="gone:1", version="0.1.0", started_at=now, beat_at=now - timedelta(minutes=5))
    assert client.get("/readyz").status_code == 200


def test_ready_knows_a_clock_that_stopped(client, publisher_at_work):
    workers.beat()
    assert client.get("/readyz").json()["checks"]["worker's clock"] is False


@pytest.mark.postgresql
def test_ready_knows_that_nobody_publishes(client):
    workers.beat(swept=True)
    assert client.get("/readyz").json()["checks"]["publisher"] is False


def test_workers_that_are_long_gone_are_forgotten():
    now = timezone.now()
    for name, age in (("silent:1", timedelta(minutes=59)), ("forgotten:1", timedelta(minutes=61))):
        Worker.objects.create(name=name, version="0.1.0", started_at=now, beat_at=now - age)
    workers.beat()
    assert {worker.name for worker in Worker.objects.all()} == {"silent:1", workers.own_name()}
    workers.leave()
    assert {worker.name for worker in Worker.objects.all()} == {"silent:1"}


def test_a_heartbeat_beats_and_leaves():
    heartbeat = workers.Heartbeat()
    heartbeat.start()
    while not Worker.objects.filter(pk=workers.own_name()).exists():
        time.sleep(0.01)
    heartbeat.stop()
    heartbeat.join(5)
    assert not Worker.objects.exists()


def test_what_hangs_is_asked_once_and_waited_for_so_long():
    asked, go_on = [], threading.Event()

    def hangs() -> str:
        asked.append(1)
        go_on.wait(10)
        return "late"

    question = Question(hangs)
    for _ in range(3):
        question.ask()
        assert question.answer(0.02) is None
    assert asked == [1]
    go_on.set()
    assert question.answer(5) == "late"
    question.ask()
    assert question.answer(5) == "late"
    assert asked == [1, 1]


def test_what_raises_is_raised_for_who_asked():
    question = Question(lambda: 1 // 0)
    question.ask()
    with pytest.raises(ZeroDivisionError):
        question.answer(5)


def test_ready_answers_in_time_when_redis_is_frozen(settings, client, publisher_at_work):
    """It takes connections and says nothing: the worst that a server can do to its clients."""
    workers.beat(swept=True)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        settings.REDIS_URL = f"redis://127.0.0.1:{frozen.getsockname()[1]}/0"
        settings.CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {"hosts": [settings.REDIS_URL]},
            }
        }
        channel_layers.backends = {}
        started = time.monotonic()
        response = client.get("/readyz")
        took = time.monotonic() - started
    channel_layers.backends = {}
    assert response.status_code == 503
    assert [name for name, ok in response.json()["checks"].items() if not ok] == ["channel layer"]
    assert took < 2 * health.PATIENCE


def test_ready_answers_in_time_when_the_database_is_frozen(tmp_path):
    """In a process of its own: this one's database is the test's."""
    program = (
        "import django, time; django.setup()\n"
        "from django.test import Client\n"
        "for _ in range(2):\n"
        "    started = time.monotonic()\n"
        "    response = Client().get('/readyz')\n"
        "    print(response.status_code, response.json()['checks'], time.monotonic() - started < 6)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgres://nobody@127.0.0.1:{frozen.getsockname()[1]}/none"
        environment = {"DATABASE_URL": url, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "helpdesk.settings"}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env={**os.environ, "ALLOWED_HOSTS": "testserver", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 0, ended.stderr
    answer = "503 {'database': False, 'channel layer': True} True"
    assert [line for line in ended.stdout.splitlines() if line] == [answer, answer]


def test_metrics_are_for_this_machine(client):
    body = client.get("/metrics").content.decode()
    assert "helpdesk_webhook_oldest_due_seconds 0.0" in body
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 404


def test_or_for_who_has_the_token(client, settings):
    settings.METRICS_TOKEN = "t0ken"
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer t0ken"}).status_code == 200
