"""What load balancers and monitoring are told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import health
from notifications.models import WorkerHeartbeat

pytestmark = pytest.mark.django_db


def test_alive_says_nothing_of_what_it_depends_on(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_knows_a_dead_worker(client):
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["worker"]) == (503, False)
    health.beat()
    assert client.get("/readyz").json()["status"] == "ok"
    WorkerHeartbeat.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    check = next(check for check in health.checks() if check.name == "worker")
    assert not check.ok
    assert "5 min ago" in check.detail
    assert "celery" in check.hint


def test_metrics_are_for_this_machine(client):
    body = client.get("/metrics").content.decode()
    assert "helpdesk_webhook_oldest_due_seconds 0.0" in body
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 404


def test_or_for_who_has_the_token(client, settings):
    settings.METRICS_TOKEN = "t0ken"
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer t0ken"}).status_code == 200
