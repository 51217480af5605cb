"""`webhook_redeliver`: again, under the same webhook-id, and never by accident."""

import json
from datetime import UTC, datetime

import pytest

from notifications.models import WebhookDelivery, WebhookRecovery
from notifications.webhooks import endpoints, recovery
from tests.commands.shell import manage

pytestmark = pytest.mark.django_db

UNKNOWN = "019a9246-c7d0-7c3a-8c3b-0e6f5a4d3c2b"
YESTERDAY = "2020-01-01"


def states() -> list[str]:
    return sorted(WebhookDelivery.objects.values_list("state", flat=True))


def test_by_id_and_by_webhook_id(deliver):
    first, second, third = deliver(attempt_count=10), deliver("delivered"), deliver()
    ended = manage("webhook_redeliver", first.pk, second.message_id)
    assert (ended.code, ended.out) == (0, "2 deliveries will be sent again.\n")
    first.refresh_from_db()
    assert (first.state, first.attempt_count) == ("pending", 0)
    assert first.next_attempt_at
    third.refresh_from_db()
    assert third.state == "exhausted"


def test_an_unknown_id_is_named_and_nothing_is_sent(deliver):
    known = deliver()
    ended = manage("webhook_redeliver", known.pk, UNKNOWN)
    assert ended.code == 1
    assert f"{UNKNOWN} is unknown" in ended.err
    assert str(known.pk) not in ended.err
    assert states() == ["exhausted"]


def test_what_cannot_be_sent_now_is_named_with_the_reason(deliver, endpoint, agent):
    sending = deliver("sending")
    assert f"{sending.pk} is being sent at this moment" in manage("webhook_redeliver", sending.pk).err
    paused, _secret = endpoints.create(agent, "http://127.0.0.1:9/paused")
    held = deliver("held", to=paused)
    endpoints.pause(paused)
    assert f"{held.pk} is of an endpoint that is paused" in manage("webhook_redeliver", held.pk).err
    endpoints.delete(paused)
    ended = manage("webhook_redeliver", held.pk)
    assert (ended.code, f"{held.pk} is of a deleted endpoint" in ended.err) == (1, True)
    assert states() == ["cancelled", "sending"]


def test_since_a_time_takes_what_has_not_arrived(deliver):
    deliver("exhausted", created_at=datetime(2019, 12, 31, 23, 59, tzinfo=UTC))
    for state in ("exhausted", "held", "retrying", "delivered", "cancelled", "pending"):
        deliver(state)
    assert manage("webhook_redeliver", "--since", YESTERDAY).out == "3 deliveries will be sent again.\n"
    assert states() == ["cancelled", "delivered", "exhausted", "pending", "pending", "pending", "pending"]


def test_since_ever(deliver):
    deliver("exhausted", created_at=datetime(1, 1, 2, tzinfo=UTC))
    assert manage("webhook_redeliver", "--since", "0001-01-01").out == "1 delivery will be sent again.\n"


def test_since_a_time_of_one_endpoint_and_in_certain_states(deliver, customer):
    theirs, _secret = endpoints.create(customer, "http://127.0.0.1:9/theirs")
    deliver("delivered")
    wanted = [deliver("delivered", to=theirs), deliver("cancelled", to=theirs)]
    deliver("exhausted", to=theirs)
    arguments = ["--since", YESTERDAY, "--endpoint", theirs.pk, "--state", "delivered", "--state", "cancelled"]
    assert json.loads(manage("webhook_redeliver", *arguments, "--json").out)["count"] == 2
    pending = WebhookDelivery.objects.filter(state="pending")
    assert set(pending) == set(wanted)


def test_a_dry_run_sends_nothing(deliver):
    deliver()
    assert manage("webhook_redeliver", "--since", YESTERDAY, "--dry-run").out == "1 delivery would be sent again.\n"
    found = json.loads(manage("webhook_redeliver", "--since", YESTERDAY, "--dry-run", "--json").out)
    assert found == {
        "dry_run": True, "count": 1, "seconds": 0, "per_minute": 600, "recoveries": [], "left_out": {},
    }  # fmt: skip
    assert not WebhookRecovery.objects.exists()
    assert states() == ["exhausted"]


def test_since_a_time_leaves_out_what_would_not_be_sent_and_says_so(deliver, agent, endpoint):
    paused, _secret = endpoints.create(agent, "http://127.0.0.1:9/paused")
    deliver("held", to=paused)
    endpoints.pause(paused)
    deliver("exhausted")
    ended = manage("webhook_redeliver", "--since", YESTERDAY)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "1 delivery will be sent again.",
        "Left out: 1 of an endpoint that is paused or disabled (resume it first).",
    ]
    assert states() == ["held", "pending"]


def test_many_go_at_a_bounded_rate_and_the_command_says_how_long(deliver, endpoint, monkeypatch):
    monkeypatch.setattr(recovery, "AT_ONCE", 2)
    for _ in range(5):
        deliver("exhausted")
    arguments = ["webhook_redeliver", "--since", YESTERDAY, "--endpoint", endpoint.pk, "--per-minute", "1"]
    assert manage(*arguments, "--dry-run").out.splitlines() == [
        "5 deliveries would be sent again.",
        "That takes about 3 minutes, at 1 a minute to each endpoint.",
    ]
    assert states() == ["exhausted"] * 5
    assert manage(*arguments).out.splitlines()[0] == "5 deliveries will be sent again."
    assert states() == ["exhausted"] * 3 + ["pending"] * 2
    again = manage(*arguments)
    assert again.out.splitlines() == [
        "0 deliveries will be sent again.",
        "Left out: 2 waiting to be sent already.",
        "Left out: 3 of an endpoint with a recovery that is still running.",
    ]
    assert WebhookRecovery.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name deliveries by their ids, or a time by --since"),
        ([UNKNOWN, "--since", YESTERDAY], "one of both"),
        ([UNKNOWN, "--state", "held"], "not with ids"),
        ([UNKNOWN, "--endpoint", UNKNOWN], "not with ids"),
        (["msg_nonsense"], "'msg_nonsense' is neither a delivery's id nor a webhook-id"),
        (["--since", "soon"], "'soon' is not an ISO date or time"),
        ([UNKNOWN, "--per-minute", "5"], "not with ids"),
        (["--since", YESTERDAY, "--endpoint", UNKNOWN], "There is no webhook endpoint"),
        (["--since", YESTERDAY, "--until", "2019-01-01"], "--since is not before --until"),
        (["--since", "2999-01-01"], "--since is not before --until"),
        (["--since", YESTERDAY, "--per-minute", "0"], "--per-minute is a number from 1 to 6000"),
        (["--since", YESTERDAY, "--per-minute", "6001"], "--per-minute is a number from 1 to 6000"),
        (["--since", YESTERDAY, "--state", "sending"], "invalid choice: 'sending'"),
        ([UNKNOWN] * 101, "At most 100 ids at a time"),
    ],
)
def test_bad_arguments(deliver, arguments, words):
    deliver()
    ended = manage("webhook_redeliver", *arguments)
    assert ended.code == 1
    assert words in ended.err
    assert states() == ["exhausted"]
