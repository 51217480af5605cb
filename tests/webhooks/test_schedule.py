import random
from datetime import timedelta
from email.utils import formatdate
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.webhooks.schedule import (
    DELAYS,
    MAX_ATTEMPTS,
    Verdict,
    asks_for_relief,
    classify,
    delay_after,
    parse_retry_after,
)

NOW = 1_800_000_000.0


class Outcome(NamedTuple):
    status: int | None = None
    error: str | None = None
    timed_out: bool = False
    retry_after: float | None = None


def planned(low: float, high: float) -> float:
    """A random number that is always the middle: the schedule without its jitter."""
    return (low + high) / 2


def shortest(low: float, high: float) -> float:
    return low


def longest(low: float, high: float) -> float:
    return high


def seconds(attempt: int, outcome: Outcome, uniform=planned) -> float:
    delay = delay_after(attempt, outcome, uniform)
    assert delay is not None
    return delay.total_seconds()


def test_the_schedule_is_that_of_standard_webhooks():
    waits = [delay_after(attempt, Outcome(status=500), planned) for attempt in range(1, MAX_ATTEMPTS)]
    assert waits == [
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    ]
    assert DELAYS[0] == 0


def test_the_last_attempt_is_the_last():
    assert delay_after(MAX_ATTEMPTS, Outcome(status=500, retry_after=5)) is None
    assert delay_after(MAX_ATTEMPTS + 1, Outcome(timed_out=True, error="timeout")) is None


def test_jitter_spreads_by_a_fifth_either_way():
    assert seconds(4, Outcome(status=500), shortest) == pytest.approx(7200 * 0.8)
    assert seconds(4, Outcome(status=500), longest) == pytest.approx(7200 * 1.2)
    drawn = {seconds(4, Outcome(status=500), random.uniform) for _ in range(50)}
    assert len(drawn) > 1
    assert all(7200 * 0.8 <= delay <= 7200 * 1.2 for delay in drawn)


@pytest.mark.parametrize(
    ("asked", "given_"),
    [(0, 1800), (1799, 1800), (1800, 1800), (2400, 2400), (3600, 3600), (3601, 3600), (1e9, 3600)],
)
def test_retry_after_counts_between_the_plan_and_twice_the_plan(asked, given_):
    assert seconds(3, Outcome(status=503, retry_after=asked)) == given_


def test_the_bounds_of_retry_after_follow_the_jitter():
    assert seconds(3, Outcome(status=503, retry_after=0), longest) == pytest.approx(1800 * 1.2)
    assert seconds(3, Outcome(status=503, retry_after=1e9), shortest) == pytest.approx(2 * 1800 * 0.8)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(status=429),
        Outcome(status=429, retry_after=1),
        Outcome(status=429, retry_after=8),
        Outcome(error="timeout", timed_out=True),
        Outcome(status=200, error="timeout", timed_out=True),
    ],
)
def test_after_a_429_or_a_timeout_it_is_at_least_a_minute(outcome):
    assert seconds(1, outcome) == 60
    assert seconds(2, outcome) == 300


def test_other_failures_are_tried_again_after_five_seconds():
    assert seconds(1, Outcome(status=503)) == 5
    assert seconds(1, Outcome(error="connect_refused")) == 5


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(status):
    assert classify(Outcome(status=status)) is Verdict.DELIVERED


@pytest.mark.parametrize(
    "status", [100, 101, 199, 300, 301, 302, 304, 307, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504, 999]
)
def test_every_other_status_is_tried_again(status):
    assert classify(Outcome(status=status)) is Verdict.RETRY


def test_gone_is_permanent():
    assert classify(Outcome(status=410)) is Verdict.PERMANENT


@pytest.mark.parametrize("status", [None, 200, 204, 410])
def test_no_whole_answer_is_tried_again_whatever_its_status_was(status):
    assert classify(Outcome(status=status, error="answer_cut_off")) is Verdict.RETRY
    assert classify(Outcome(status=status, error="timeout", timed_out=True)) is Verdict.RETRY


def test_who_asks_for_relief():
    assert [s for s in range(100, 600) if asks_for_relief(Outcome(status=s))] == [429, 502, 503, 504]
    assert asks_for_relief(Outcome(error="dns_timeout", timed_out=True))
    assert not asks_for_relief(Outcome(error="connect_refused"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW + 90, localtime=False).replace("-0000", "+0000"), 90),
        (formatdate(NOW + 90, localtime=False), 90),  # ends in -0000
        (formatdate(NOW - 90, usegmt=True), 0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("１２０", None),
        ("9" * 5000, None),
        ("Fri, 99 Foo 2027 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms_and_nothing_else(value, expected):
    assert parse_retry_after(value, NOW) == expected


@given(st.text())
def test_no_retry_after_header_breaks_the_parser(value):
    parsed = parse_retry_after(value, NOW)
    assert parsed is None or parsed >= 0
