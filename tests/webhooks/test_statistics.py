"""The numbers of /metrics are what happened, whichever process it happened in."""

import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications import workers
from notifications.models import Event, Statistic, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints, gates, outcomes, statistics
from notifications.webhooks.engine import Engine
from notifications.webhooks.http import Exchange
from notifications.webhooks.outcomes import Result
from tests.webhooks.deliveries import claim, roomy
from tests.webhooks.receiver import OK, Receiver, answering

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_counted(monkeypatch):
    monkeypatch.setattr(statistics, "_added", statistics.Counter())


@pytest.fixture
def deliver(ticket, customer, agent):
    """Deliveries of comments, each with what came of its one attempt."""
    endpoint, _ = endpoints.create(customer, "http://127.0.0.1:9/hook")

    def deliver(*exchanges: Exchange, attempts_before: int = 0):
        with acting_as(agent):
            for number in range(len(exchanges)):
                Comment(ticket=ticket, author=agent, content=f"Comment {number}").post()
        WebhookDelivery.objects.filter(state="pending").update(attempt_count=attempts_before)
        claimed = claim(100, roomy(100))
        outcomes.record([Result(item, exchange) for item, exchange in zip(claimed, exchanges, strict=True)])
        statistics.flush()
        return endpoint

    return deliver


@pytest.fixture
def shown(client):
    """What Prometheus would read: `shown("helpdesk_…", outcome="…")`."""

    def shown(name: str, **labels: str) -> float:
        found = [
            sample.value
            for family in text_string_to_metric_families(client.get("/metrics").content.decode())
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    return shown


def failed(error: str | None = None, status: int | None = None) -> Exchange:
    return Exchange(status=status, error=error, diagnosis="no", total_ms=20.0)


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (failed(status=204), "delivered"),
        (failed(status=302), "3xx"),
        (failed(status=404), "4xx"),
        (failed(status=410), "4xx"),
        (failed(status=503), "5xx"),
        (failed(status=600), "other"),
        (failed(error="timeout"), "timeout"),
        (failed(error="timeout", status=200), "timeout"),  # it began to answer, and never ended
        (failed(error="connect_timeout"), "timeout"),
        (failed(error="dns_timeout"), "timeout"),
        (failed(error="connect_refused"), "refused"),
        (failed(error="connection_reset"), "connection"),
        (failed(error="answer_malformed"), "connection"),
        (failed(error="tls_certificate"), "tls"),
        (failed(error="dns_not_found"), "dns"),
        (failed(error="address_refused"), "blocked"),
        (failed(error="url_host"), "blocked"),
        (failed(error="unexpected"), "internal"),
    ],
)
def test_every_attempt_has_its_outcome(exchange, outcome):
    assert statistics.outcome_of(exchange) == outcome
    assert outcome in statistics.OUTCOMES


def test_what_workers_do_is_shown(deliver, shown):
    deliver(failed(status=200), failed(status=200), failed(status=500), failed(error="timeout"))
    deliver(failed(status=500), attempts_before=9)
    assert shown("helpdesk_webhook_attempts_total", outcome="delivered") == 2
    assert shown("helpdesk_webhook_attempts_total", outcome="5xx") == 2
    assert shown("helpdesk_webhook_attempts_total", outcome="timeout") == 1
    assert shown("helpdesk_webhook_deliveries_ended_total", outcome="delivered") == 2
    assert shown("helpdesk_webhook_deliveries_ended_total", outcome="exhausted") == 1
    assert shown("helpdesk_webhook_deliveries", state="retrying") == 2
    assert shown("helpdesk_webhook_deliveries", state="exhausted") == 1


def test_what_is_set_aside_is_shown(deliver, shown, ticket, agent, customer):
    endpoint = deliver(failed(status=410))
    assert shown("helpdesk_webhook_deliveries_ended_total", outcome="held") == 1
    assert shown("helpdesk_webhook_endpoints", state="disabled") == 1
    endpoints.resume(endpoint)
    gates.release(timezone.now())
    customer.deactivate()
    claim(100, roomy(100))
    statistics.flush()
    assert shown("helpdesk_webhook_deliveries_ended_total", outcome="cancelled") == 1


def test_times_are_histograms(deliver, shown):
    deliver(Exchange(status=200, diagnosis="", total_ms=20.0), Exchange(status=200, diagnosis="", total_ms=700.0))
    name = "helpdesk_webhook_attempt_duration_seconds"
    assert [shown(f"{name}_bucket", le=le) for le in ("0.01", "0.025", "0.5", "1.0", "+Inf")] == [0, 1, 1, 2, 2]
    assert shown(f"{name}_count") == 2
    assert shown(f"{name}_sum") == pytest.approx(0.72)
    assert shown("helpdesk_webhook_delivery_latency_seconds_count") == 2


def test_an_attempt_as_long_as_a_bound_belongs_below_it(deliver, shown):
    """Prometheus: `le` is less or equal. And what is longer than all bounds is counted, too."""
    deliver(Exchange(status=200, diagnosis="", total_ms=5000.0), Exchange(status=200, diagnosis="", total_ms=60_000.0))
    name = "helpdesk_webhook_attempt_duration_seconds_bucket"
    assert [shown(name, le=le) for le in ("2.5", "5.0", "15.0", "+Inf")] == [0, 1, 1, 2]


def test_the_backlog_and_its_age(deliver, shown, ticket, agent):
    deliver()
    with acting_as(agent):
        Comment(ticket=ticket, author=agent, content="Waits").post()
    WebhookDelivery.objects.update(next_attempt_at=timezone.now() - timedelta(minutes=2))
    assert shown("helpdesk_webhook_deliveries_due") == 1
    assert shown("helpdesk_webhook_oldest_due_seconds") == pytest.approx(120, abs=10)
    assert shown("helpdesk_events_unpublished") == Event.objects.count()


def test_breakers(deliver, shown):
    deliver()
    WebhookEndpoint.objects.update(breaker="open")
    assert shown("helpdesk_webhook_breakers", state="open") == 1
    assert shown("helpdesk_webhook_breakers", state="closed") == 0


def test_workers(shown):
    assert shown("helpdesk_worker_silence_seconds") == -1
    workers.beat(in_flight=5, concurrency=64, swept=True)
    assert shown("helpdesk_workers", state="alive") == 1
    assert shown("helpdesk_workers", state="silent") == 0
    assert shown("helpdesk_worker_attempts_in_flight") == 5
    assert shown("helpdesk_worker_attempts_max") == 64
    assert 0 <= shown("helpdesk_worker_sweep_age_seconds") < 10


def test_a_scrape_is_a_handful_of_queries(client, django_assert_max_num_queries):
    with django_assert_max_num_queries(16):
        client.get("/metrics")


def test_one_statement_writes_all_of_it(django_assert_num_queries):
    now = timezone.now()
    event = SimpleNamespace(occurred_at=now)
    delivery = SimpleNamespace(attempt_count=0, notification=SimpleNamespace(event=event))
    results = [
        SimpleNamespace(exchange=exchange, claimed=SimpleNamespace(delivery=delivery))
        for exchange in (failed(status=200), failed(status=500), failed(error="timeout"))
    ]
    statistics.attempted(results, now)
    with django_assert_num_queries(1):
        statistics.flush()
    with django_assert_num_queries(0):
        statistics.flush()


def test_what_the_database_does_not_take_is_kept(monkeypatch):
    statistics.set_aside("held")
    with monkeypatch.context() as patched:
        patched.setattr(statistics, "_add", lambda counts: (_ for _ in ()).throw(statistics.DatabaseError("gone")))
        statistics.flush()
    assert not Statistic.objects.exists()
    statistics.set_aside("held")
    statistics.flush()
    assert Statistic.objects.get().value == 2


@pytest.mark.django_db(transaction=True)
def test_many_processes_add_to_the_same_rows():
    """Each thread stands for a process, with a connection of its own; nothing is lost between them."""

    def count() -> None:
        try:
            for _ in range(20):
                statistics._add(statistics.Counter({("attempts", "5xx"): 1, ("attempts", "delivered"): 2}))
        finally:
            connection.close()

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(Statistic.objects.values_list("label", "value")) == {"5xx": 120, "delivered": 240}


@pytest.mark.django_db(transaction=True)
def test_an_engine_that_stops_leaves_its_numbers(ticket, customer, agent, shown):
    with Receiver(answering(OK)) as receiver:
        endpoints.create(customer, receiver.url())
        with acting_as(agent):
            for number in range(3):
                Comment(ticket=ticket, author=agent, content=f"Comment {number}").post()
        Engine(concurrency=4, per_endpoint=4, linger=0).run()
    assert shown("helpdesk_webhook_attempts_total", outcome="delivered") == 3
    assert shown("helpdesk_webhook_attempt_duration_seconds_sum") > 0
    assert shown("helpdesk_workers", state="alive") == 1


@pytest.mark.postgresql
def test_every_question_is_answered_from_an_index(client):
    """A million deliveries of history, as far as the planner knows: none of the questions may read the table."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for condition in (
            "state = 'pending'",
            "state = 'retrying'",
            "state = 'sending'",
            "state = 'held'",
            "state = 'exhausted'",
            "state = 'looped'",
            "state IN ('pending', 'retrying') AND next_attempt_at <= now()",
        ):
            cursor.execute(f"EXPLAIN SELECT count(*) FROM notifications_webhookdelivery WHERE {condition}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in plan, plan
            assert "delivery_" in plan, plan
