"""Webhooks that go round in a circle are stopped, and nothing else is."""

from datetime import timedelta

import pytest
from django.utils import timezone

from comments.models import Comment
from helpdesk.changes import trace
from helpdesk.changes.actor import acting_as
from notifications.expansion import expand_next_batch
from notifications.models import Event, WebhookDelivery
from notifications.numbering import number_events
from notifications.webhooks import endpoints, loops, outcomes
from notifications.webhooks.http import Exchange
from notifications.webhooks.outcomes import Result
from notifications.webhooks.sending import signed_request
from tests.webhooks.deliveries import claim, roomy

pytestmark = pytest.mark.django_db

OK = Exchange(status=200, diagnosis="answered 200 OK", total_ms=3.0)


@pytest.fixture(autouse=True)
def _nothing_sent_before(monkeypatch):
    monkeypatch.setattr(loops, "_pace", loops.Pace())


@pytest.fixture
def endpoint(customer):
    return endpoints.create(customer, "http://127.0.0.1:9/customer")[0]


@pytest.fixture
def comment(api, agent, ticket):
    """Comment by the API, as an integrator that acts as the agent does; `header` is the trace it sends along."""

    def comment(header=None, on=ticket, by=agent):
        headers = {trace.HEADER: header} if header is not None else {}
        response = api(by).post(f"/api/tickets/{on.pk}/comments", {"content": "Translated: hello"}, headers=headers)
        assert response.status_code == 201, response.content
        return response

    return comment


def send() -> list[dict[str, str]]:
    """Deliver everything that is due, successfully; the headers of the requests."""
    claimed = claim(100, roomy(100))
    requests = [signed_request(item)[1] for item in claimed]
    outcomes.record([Result(item, OK) for item in claimed])
    return requests


def looped() -> list[WebhookDelivery]:
    return list(WebhookDelivery.objects.filter(state="looped").order_by("id"))


# --- With the trace -------------------------------------------------------------------------------------------------


def test_a_request_names_itself_and_what_led_to_it(endpoint, comment):
    comment()
    [first] = send()
    assert trace.unseal(first["helpdesk-trace"]) == ((first["webhook-id"],), "accepted")


def test_what_a_webhook_caused_is_not_sent_to_where_it_came_from(endpoint, comment, agent, ticket):
    comment()
    [first] = send()
    response = comment(first["helpdesk-trace"])
    assert response["helpdesk-trace"] == "accepted"
    assert send() == []
    [stopped] = looped()
    assert (
        stopped.state_reason
        == f"It was caused by {first['webhook-id']}, which this endpoint got about the same ticket."
    )
    assert stopped.next_attempt_at is None


def test_everybody_else_is_told_all_the_same(endpoint, comment, agent, ticket, other_agent):
    ticket.assignee = other_agent
    ticket.save()
    send()
    endpoints.create(other_agent, "http://127.0.0.1:9/other")
    comment()
    first = next(r for r in send() if WebhookDelivery.objects.get(pk=r["helpdesk-delivery-id"]).endpoint == endpoint)
    comment(first["helpdesk-trace"])
    [other] = send()
    assert trace.unseal(other["helpdesk-trace"])[0] == (first["webhook-id"], other["webhook-id"])
    assert [delivery.endpoint for delivery in looped()] == [endpoint]


def test_a_circle_over_two_endpoints(endpoint, comment, agent, ticket, customer):
    """Each integrator acts as its owner: the circle closes at the second one's change."""
    ticket.assignee = agent
    ticket.save()
    endpoints.create(agent, "http://127.0.0.1:9/agent")
    comment()
    [to_customer] = send()
    comment(to_customer["helpdesk-trace"], by=customer)
    [to_agent] = send()
    comment(to_agent["helpdesk-trace"], by=agent)
    assert send() == []
    [stopped] = looped()
    assert stopped.endpoint == endpoint
    assert to_customer["webhook-id"] in stopped.state_reason


def test_another_ticket_is_another_matter_five_times(api, agent, admin):
    """An integrator may open a ticket because of a ticket. One that never ends doing so is stopped as well."""
    endpoints.create(admin, "http://127.0.0.1:9/admin")

    def open_ticket(**headers):
        response = api(agent).post("/api/tickets", {"title": "Follow-up", "description": "Because."}, headers=headers)
        assert response.status_code == 201, response.content
        return send()

    [request] = open_ticket()
    for _ in range(loops.MAX_PASSES - 1):
        [request] = open_ticket(**{trace.HEADER: request["helpdesk-trace"]})
    assert open_ticket(**{trace.HEADER: request["helpdesk-trace"]}) == []
    [stopped] = looped()
    assert "in that chain 5 times already" in stopped.state_reason


def test_an_announcement_keeps_the_trace_of_its_change(settings, endpoint, comment, api, agent, draft):
    """It is written by the worker, later, as an event of its own."""
    settings.AUDIENCE_IN_TRANSACTION = 0
    comment()
    [first] = send()
    headers = {trace.HEADER: first["helpdesk-trace"]}
    assert api(agent).patch(f"/api/kb/articles/{draft.pk}", {"status": "published"}, headers=headers).status_code == 200
    while expand_next_batch():
        pass
    [second] = send()
    assert trace.unseal(second["helpdesk-trace"])[0] == (first["webhook-id"], second["webhook-id"])


def test_what_was_stopped_can_be_sent_by_hand(endpoint, comment, api, customer):
    comment()
    comment(send()[0]["helpdesk-trace"])
    send()
    [stopped] = looped()
    response = api(customer).post(f"/api/webhook-deliveries/{stopped.pk}/redeliver")
    assert response.json()["state"] == "pending"
    [request] = send()
    assert request["webhook-id"] == stopped.message_id
    # It goes on naming what led to it: whoever echoes it is still in the same circle.
    comment(request["helpdesk-trace"])
    assert send() == []


def test_recovering_what_was_missed_starts_no_circle(endpoint, comment, api, customer):
    comment()
    comment(send()[0]["helpdesk-trace"])
    send()
    since = (timezone.now() - timedelta(hours=1)).isoformat()
    assert api(customer).post(f"/api/webhook-endpoints/{endpoint.pk}/recover", {"since": since}).json()["total"] == 0


@pytest.mark.parametrize(
    "header",
    ["", "nonsense", "msg_0123456789abcdef0123456789abcdef", ",,,", "x" * 10_000, "msg_a:1:signature", "\xff\xfe"],
    ids=["empty", "nonsense", "unsigned", "commas", "huge", "forged", "not ASCII"],
)
def test_a_trace_that_is_not_ours_counts_for_nothing(endpoint, comment, header):
    response = comment(header)
    assert response["helpdesk-trace"] == "unreadable"
    assert Event.objects.filter(entity="comment").get().trace is None
    assert len(send()) == 1


def test_a_trace_of_long_ago_counts_for_nothing(endpoint, comment, monkeypatch):
    comment()
    [first] = send()
    monkeypatch.setattr(trace, "MAX_AGE", timedelta(seconds=-1))
    assert comment(first["helpdesk-trace"])["helpdesk-trace"] == "expired"
    assert len(send()) == 1


def test_a_stranger_stops_nobody_elses_webhooks(endpoint, comment, other_customer, api, ticket, agent):
    """Somebody who knows ids, or has a trace of their own endpoint, suppresses nothing of other people's."""
    endpoints.create(other_customer, "http://127.0.0.1:9/stranger")
    comment()
    [known] = send()
    assert comment(known["webhook-id"])["helpdesk-trace"] == "unreadable"  # the id alone, unsealed
    assert len(send()) == 1
    mine = api(other_customer).post("/api/tickets", {"title": "Mine", "description": "My own."}).json()
    comment(on=type(ticket).objects.get(pk=mine["id"]))
    [own] = send()
    # A trace of one's own endpoint is only good for that endpoint.
    assert comment(own["helpdesk-trace"])["helpdesk-trace"] == "accepted"
    assert len(send()) == 1
    assert looped() == []


def test_a_trace_keeps_the_newest():
    ids = [f"msg_{number:032x}" for number in range(30)]
    sealed = trace.seal(ids)
    assert trace.unseal(sealed) == (tuple(ids[-trace.MAX_IDS :]), "accepted")
    assert len(sealed) < trace.MAX_LENGTH


def test_what_leads_to_one_request_leads_to_no_other(endpoint, comment):
    comment()
    comment(send()[0]["helpdesk-trace"])
    comment()
    assert len(send()) == 1
    assert len(looped()) == 1


# --- Without it -----------------------------------------------------------------------------------------------------


def test_a_circle_without_a_trace_comes_to_rest(endpoint, comment, settings):
    settings.WEBHOOK_LOOP_LIMIT = 5
    comment()
    rounds = 0
    while send():
        rounds += 1
        assert rounds < 20
        comment()
    assert rounds == 5
    [stopped] = looped()
    assert stopped.state_reason.startswith("In the minute before this change, 5 webhooks about the same ticket arrived")


def test_it_goes_on_a_minute_later(endpoint, comment, settings):
    settings.WEBHOOK_LOOP_LIMIT = 2
    for _ in range(3):
        comment()
        send()
    assert len(looped()) == 1
    for delivery in WebhookDelivery.objects.exclude(delivered_at=None):
        delivery.delivered_at -= loops.WINDOW
        delivery.save()
    comment()
    assert len(send()) == 1


def test_other_people_and_other_tickets_are_not_stopped_by_it(
    endpoint, comment, settings, other_agent, ticket, customer
):
    settings.WEBHOOK_LOOP_LIMIT = 2
    for _ in range(3):
        comment()
        send()
    comment(by=other_agent)
    assert len(send()) == 1
    comment(on=type(ticket).objects.create(title="Another", requester=customer))
    assert len(send()) == 1
    assert len(looped()) == 1


def test_an_import_is_no_circle(endpoint, ticket, agent, settings):
    """A hundred comments by a command, each delivered before the next."""
    settings.WEBHOOK_LOOP_LIMIT = 5
    with acting_as(agent):
        for number in range(40):
            Comment(ticket=ticket, author=agent, content=f"Imported {number}").post()
            assert len(send()) == 1


def test_a_burst_is_no_circle(endpoint, comment, settings):
    """Changes that do not wait for webhooks cannot be caused by them."""
    settings.WEBHOOK_LOOP_LIMIT = 5
    for _ in range(20):
        comment()
    assert len(send()) == 20


def test_the_limit_can_be_switched_off(endpoint, comment, settings):
    settings.WEBHOOK_LOOP_LIMIT = 0
    for _ in range(10):
        comment()
        assert len(send()) == 1


# --- What it costs --------------------------------------------------------------------------------------------------


def queries_of_a_claim(django_assert_max_num_queries) -> int:
    with django_assert_max_num_queries(100) as captured:
        claim(100, roomy(100))
    return len(captured)


def test_one_query_for_a_batch_with_traces_and_none_without(endpoint, comment, django_assert_max_num_queries, customer):
    endpoints.create(customer, "http://127.0.0.1:9/second")
    comment()
    number_events()
    plain = queries_of_a_claim(django_assert_max_num_queries)
    WebhookDelivery.objects.update(state="pending", lease_token=None, next_attempt_at=timezone.now())
    Event.objects.update(trace=["msg_" + "0" * 32, "not an id"])
    assert queries_of_a_claim(django_assert_max_num_queries) == plain + 1


def test_the_sieve_forgets(monkeypatch, endpoint, comment, settings):
    settings.WEBHOOK_LOOP_LIMIT = 16
    comment()
    delivery = WebhookDelivery.objects.select_related("notification__event").get()
    now = [0.0]
    monkeypatch.setattr(loops.time, "monotonic", lambda: now[0])
    pace = loops.Pace()
    assert [pace.is_suspicious(delivery) for _ in range(3)] == [False, True, True]
    now[0] = 61.0
    assert pace.is_suspicious(delivery)  # the last minute counts as well
    now[0] = 300.0
    assert not pace.is_suspicious(delivery)
