"""`webhook_deliveries`: what was sent where, newest first."""

import json
from datetime import UTC, datetime

import pytest

from notifications.models import WebhookAttempt
from notifications.webhooks import endpoints
from tests.commands.shell import manage

pytestmark = pytest.mark.django_db


def ids(ended) -> list[str]:
    return [row["id"] for row in json.loads(ended.out)]


def test_a_table_with_what_one_wants_to_know(deliver):
    due = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    delivery = deliver("retrying", attempt_count=2, next_attempt_at=due)
    for number in (1, 2):
        WebhookAttempt.objects.create(
            delivery=delivery, number=number, succeeded=False, diagnosis=f"answered 50{number}"
        )
    ended = manage("webhook_deliveries")
    assert ended.code == 0
    header, _line, row = ended.out.splitlines()
    assert header.split("  ")[0] == "id"
    assert row.split() == [
        str(delivery.pk),
        "retrying",
        "webhook_test",
        "agent",
        "http://127.0.0.1:9/hook",
        "2",
        "2030-01-02T03:04:05.000678Z",
        "answered",
        "502",
    ]


def test_the_reason_of_a_state_comes_before_the_last_answer(deliver):
    delivery = deliver("held", state_reason="The endpoint is paused.", next_attempt_at=None)
    WebhookAttempt.objects.create(delivery=delivery, number=1, succeeded=False, diagnosis="answered 500")
    assert json.loads(manage("webhook_deliveries", "--json").out)[0]["last_diagnosis"] == "The endpoint is paused."


def test_newest_first_and_no_more_than_asked_for(deliver):
    made = [str(deliver().pk) for _ in range(3)]
    assert ids(manage("webhook_deliveries", "--json")) == made[::-1]
    assert ids(manage("webhook_deliveries", "--json", "--limit", "2")) == made[:0:-1]


def test_filters(deliver, customer):
    theirs, _secret = endpoints.create(customer, "http://127.0.0.1:9/theirs")
    old = deliver("exhausted", created_at=datetime(2020, 1, 1, tzinfo=UTC))
    new = deliver("delivered")
    other = deliver("exhausted", to=theirs)
    for arguments, expected in [
        (["--state", "exhausted"], [other, old]),
        (["--endpoint", theirs.pk], [other]),
        (["--user", "agent"], [new, old]),
        (["--since", "2024-01-01"], [other, new]),
        (["--since", "2024-01-01T00:00:00+02:00", "--user", "AGENT@example.com"], [new]),
        (["--state", "held"], []),
    ]:
        assert ids(manage("webhook_deliveries", "--json", *arguments)) == [str(it.pk) for it in expected], arguments


def test_nothing_is_said_in_words(db):
    assert manage("webhook_deliveries").out == "No deliveries.\n"
    assert manage("webhook_deliveries", "--json").out == "[]\n"


def test_one_query_however_many(deliver, django_assert_num_queries):
    for _ in range(5):
        deliver()
    with django_assert_num_queries(1):
        manage("webhook_deliveries")


def test_a_long_url_is_cut_in_the_table_but_not_for_machines(agent, deliver):
    url = "http://127.0.0.1:9/" + "a" * 100
    endpoint, _secret = endpoints.create(agent, url)
    deliver(to=endpoint)
    assert url not in manage("webhook_deliveries").out
    assert "aaa…" in manage("webhook_deliveries").out
    assert json.loads(manage("webhook_deliveries", "--json").out)[0]["url"] == url


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--state", "lost"], "invalid choice: 'lost'"),
        (["--since", "yesterday"], "'yesterday' is not an ISO date or time"),
        (["--since", "0001-01-01T00:00:00+23:00"], "is not an ISO date or time"),
        (["--limit", "0"], "a limit is a number from 1 to 1000"),
        (["--limit", "1001"], "a limit is a number from 1 to 1000"),
        (["--limit", "²"], "a limit is a number from 1 to 1000"),
        (["--endpoint", "x"], "invalid UUID value: 'x'"),
        (["--endpoint", "019a9246-c7d0-7c3a-8c3b-0e6f5a4d3c2b"], "There is no webhook endpoint"),
        (["--user", "nobody"], "There is no user 'nobody'"),
    ],
)
def test_bad_arguments(db, arguments, words):
    ended = manage("webhook_deliveries", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert ended.out == ""
