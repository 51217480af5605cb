"""How many statements a batch costs, however large it is. A count that changes is a change of speed."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.models import Event, WebhookEndpoint
from notifications.numbering import number_events
from notifications.webhooks import endpoints, gates, outcomes, queue, sending
from notifications.webhooks.outcomes import Result
from tests.webhooks.deliveries import DOWN, OK, answered, claim, roomy

# Inside a test's transaction BEGIN and COMMIT are a savepoint's two.
TRANSACTION = 2

pytestmark = pytest.mark.django_db


def statements(do, *arguments):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        result = do(*arguments)
    return result, [query["sql"][:160] for query in captured]


@pytest.fixture
def due(deliver):
    def due(count):
        deliver(count)
        number_events()

    return due


@pytest.mark.parametrize("count", [1, 8])
def test_a_claim(due, count):
    due(count)
    lanes = roomy()
    claimed, sql = statements(queue.claim, 8, lanes)
    assert len(claimed.taken) == count
    # due, gated endpoints, lease; deliveries with their events, endpoints with their owners, present scopes
    assert len(sql) == TRANSACTION + 6, sql


def test_a_claim_of_nothing(due):
    lanes = roomy()
    _, sql = statements(queue.claim, 8, lanes)
    assert len(sql) == TRANSACTION + 1, sql


@pytest.mark.parametrize("count", [2, 8])
def test_a_claim_with_a_rate_limit_and_an_order(due, count):
    due(count)
    WebhookEndpoint.objects.update(rate_limit=1000, ordered=True)
    lanes = roomy()
    _, sql = statements(queue.claim, 1, lanes)
    # besides: the endpoint's lock, its order, its pace
    assert len(sql) == TRANSACTION + 9, sql


@pytest.mark.parametrize("count", [1, 8])
def test_recording_what_was_delivered(due, count):
    due(count)
    results = [Result(item, OK) for item in claim()]
    _, sql = statements(outcomes.record, results)
    # attempts, deliveries, endpoints with a history; and that it works, which is news
    assert len(sql) == TRANSACTION + 3 + 2, sql


@pytest.mark.parametrize("count", [1, 8])
def test_recording_what_was_delivered_to_an_endpoint_that_is_known_to_work(due, count):
    due(count)
    WebhookEndpoint.objects.update(last_success_at=timezone.now())
    results = [Result(item, OK) for item in claim()]
    _, sql = statements(outcomes.record, results)
    assert len(sql) == TRANSACTION + 3, sql


@pytest.mark.parametrize("count", [3, 8])
def test_recording_what_was_not(due, count):
    due(count)
    results = [Result(item, DOWN if n % 2 else answered(404)) for n, item in enumerate(claim())]
    results[0] = Result(results[0].claimed, OK)
    _, sql = statements(outcomes.record, results)
    # attempts, delivered ones, failed ones, endpoints with a history, their health
    assert len(sql) == TRANSACTION + 5, sql


def test_sending_asks_nothing_more(due):
    """It happens in threads, each with a connection of its own, for each delivery: everything it needs is loaded."""
    due(2)
    endpoint = WebhookEndpoint.objects.get()
    endpoint.set_headers({"X-Key": "value"})
    endpoint.save()
    endpoints.rotate_secret(endpoint)
    Event.objects.update(trace=["msg_1"])
    items = claim()
    assert len(items) == 2
    _, sql = statements(lambda: [sending.signed_request(item, item.delivery.endpoint.headers()) for item in items])
    assert sql == []
    origin = Event.objects.first()
    due(1)
    Event.objects.exclude(pk=origin.pk).update(origin=origin)
    [batch] = claim()
    _, sql = statements(sending.signed_request, batch)
    assert sql == []


def test_results_of_several_claims_cost_no_more(due):
    due(6)
    WebhookEndpoint.objects.update(last_success_at=timezone.now())
    results = [Result(item, OK) for _ in range(3) for item in claim(2)]
    assert len({result.claimed.lease for result in results}) == 3
    _, sql = statements(outcomes.record, results)
    assert len(sql) == TRANSACTION + 3, sql


def test_looking_after_what_is_held(due):
    _, sql = statements(gates.release, timezone.now())
    assert len(sql) == 2, sql
