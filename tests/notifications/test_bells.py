"""A broker that is gone makes things late, never lost, and never holds up a request."""

import pytest

from notifications import bells
from notifications.models import WebhookDelivery
from notifications.webhooks import endpoints


class Broker:
    def __init__(self, broken=False):
        self.broken, self.rung = broken, []

    def send_task(self, task, **options):
        self.rung.append(task)
        if self.broken:
            raise ConnectionError("no route to broker")


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(bells, "current_app", broker)
    monkeypatch.setattr(bells, "_silent_until", 0.0)
    return broker


def test_a_bell_names_its_task(broker):
    bells.ring_deliveries()
    bells.ring_expansion()
    assert broker.rung == ["notifications.tasks.deliver_due", "notifications.tasks.expand_audiences"]


def test_the_tasks_exist():
    from celery import current_app

    import notifications.tasks  # noqa: F401

    assert {"notifications.tasks.deliver_due", "notifications.tasks.expand_audiences"} <= set(current_app.tasks)


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_the_answer_is_the_same_and_the_delivery_waits(broker, api, ticket, customer, agent, caplog):
    broker.broken = True
    endpoints.create(customer, "http://127.0.0.1:9/a")
    for number in range(3):
        response = api(agent).post(f"/api/tickets/{ticket.pk}/comments", {"content": f"Comment {number}"})
        assert response.status_code == 201
    assert WebhookDelivery.objects.filter(state="pending").count() == 3
    assert len(broker.rung) == 1  # and then it is left alone
    assert "the next sweep will do" in caplog.text
