"""Slots: who may have how many, and who gives his back. No thread and no clock but the one that is set here."""

from uuid import uuid4

import pytest

from notifications.webhooks.lanes import AHEAD, SLOW_AFTER, Lanes

HEALTHY, HANGING, OTHER = uuid4(), uuid4(), uuid4()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lanes(clock):
    return Lanes(fast=8, slow=4, per_endpoint=5, clock=clock)


def know(lanes, endpoint_id, seconds=0.01, answered=True):
    lanes.reserve("first", endpoint_id)
    lanes.start("first")
    lanes.end("first", seconds, answered)


def claim_all(lanes, endpoint_id, times=20):
    """Claim what there is room for; returns the keys."""
    room = lanes.room()
    count = sum(room.take(endpoint_id) for _ in range(times))
    keys = [(endpoint_id, number, lanes.out) for number in range(count)]
    for key in keys:
        lanes.reserve(key, endpoint_id)
    return keys


def start_all(lanes, endpoint_id, times=20):
    """Start what there is room for; returns how many that is."""
    keys = claim_all(lanes, endpoint_id, times)
    for key in keys:
        assert lanes.may_start(key)
        lanes.start(key)
    return len(keys)


def test_a_quick_endpoint_gets_its_share(lanes):
    know(lanes, HEALTHY)
    assert start_all(lanes, HEALTHY) == 5
    assert lanes.room().full() == [HEALTHY]
    assert lanes.fast_free == 3


def test_of_an_unknown_endpoint_two_until_it_has_answered(lanes):
    assert start_all(lanes, HEALTHY) == 2
    lanes.end((HEALTHY, 0, 0), 0.01, answered=True)
    assert start_all(lanes, HEALTHY) == 4


def test_unknown_endpoints_never_get_all_of_the_slots(lanes):
    assert sum(start_all(lanes, uuid4()) for _ in range(100)) == 6
    know_one = lanes.fast_free
    assert know_one == 2
    know(lanes, HEALTHY)
    assert start_all(lanes, HEALTHY) == 2


def test_what_hangs_gives_its_fast_slot_back(lanes, clock):
    start_all(lanes, HANGING)
    assert (lanes.fast_free, lanes.slow_free) == (6, 4)
    clock.now = SLOW_AFTER
    lanes.sort()
    assert lanes.fast_free == 6
    clock.now += 0.01
    lanes.sort()
    assert (lanes.fast_free, lanes.slow_free) == (8, 2)


def test_one_that_does_not_answer_gets_few_and_slow_slots_only(lanes, clock):
    know(lanes, HANGING, seconds=15, answered=False)
    assert start_all(lanes, HANGING) == 2
    assert (lanes.fast_free, lanes.slow_free) == (8, 2)


def test_a_slow_endpoint_gets_nothing_when_the_slow_slots_are_taken(lanes, clock):
    for endpoint_id in (HANGING, OTHER):
        know(lanes, endpoint_id, seconds=15, answered=False)
        assert start_all(lanes, endpoint_id) == 2
    third = uuid4()
    know(lanes, third, seconds=15, answered=False)
    assert start_all(lanes, third) == 0
    assert lanes.fast_free == 8
    know(lanes, HEALTHY)
    assert start_all(lanes, HEALTHY) == 5


def test_a_quick_answer_makes_a_slow_endpoint_a_quick_one(lanes):
    know(lanes, HANGING, seconds=15, answered=False)
    know(lanes, HANGING, seconds=0.1)
    assert start_all(lanes, HANGING) == 5


def test_one_that_was_quick_and_hangs_gets_no_more(lanes, clock):
    know(lanes, HANGING)
    assert start_all(lanes, HANGING) == 5
    clock.now = 1
    lanes.sort()
    # The slow slots are fewer than what hangs: one stays where it is, but nothing is added.
    assert (lanes.fast_free, lanes.slow_free) == (7, 0)
    assert HANGING in lanes.room().full()


def test_what_was_never_made_says_nothing_of_its_endpoint(lanes):
    assert start_all(lanes, HEALTHY) == 2
    for number in range(2):
        lanes.drop((HEALTHY, number, 0))
    assert start_all(lanes, HEALTHY) == 2


def test_counts_come_back_to_nothing(lanes, clock):
    endpoints = [uuid4() for _ in range(5)]
    for endpoint_id in endpoints:
        start_all(lanes, endpoint_id)
    clock.now = 1
    lanes.sort()
    for key in list(lanes._out):
        lanes.end(key, 2.0, answered=True)
    assert (lanes.out, lanes.fast_free, lanes.slow_free) == (0, 8, 4)
    assert lanes.room().full() == []
    for endpoint_id in (uuid4(), uuid4()):
        start_all(lanes, endpoint_id)
    for number, key in enumerate(list(lanes._out)):
        lanes.drop(key) if number % 2 else lanes.end(key, 0.1, answered=True)
    assert (lanes._unknown, lanes._here) == (0, {})


def test_who_has_nothing_here_is_forgotten_when_there_are_too_many(lanes, monkeypatch):
    monkeypatch.setattr("notifications.webhooks.lanes.REMEMBERED", 3)
    know(lanes, HEALTHY)
    know(lanes, HANGING)
    assert start_all(lanes, HANGING) == 5
    for _ in range(3):
        know(lanes, uuid4())
    assert len(lanes._endpoints) <= 3
    assert HANGING in lanes.room().full()
    assert start_all(lanes, HEALTHY) == 2  # unknown again
    for key in list(lanes._out):
        lanes.end(key, 0.1, answered=True)
    assert (lanes._unknown, lanes._here) == (0, {})


def test_one_that_answers_slowly_gets_its_share_of_the_slow_slots(lanes, clock):
    know(lanes, OTHER, seconds=2)
    assert start_all(lanes, OTHER) == 4
    assert (lanes.fast_free, lanes.slow_free) == (8, 0)


class TestAhead:
    @pytest.fixture
    def lanes(self, clock):
        return Lanes(fast=8, slow=4, per_endpoint=2, ahead=20, clock=clock)

    def test_of_a_quick_endpoint_more_is_claimed_than_can_go_out(self, lanes):
        know(lanes, HEALTHY)
        keys = claim_all(lanes, HEALTHY)
        assert len(keys) == 2 * AHEAD
        started = [key for key in keys if lanes.may_start(key) and lanes.start(key) is None]
        assert (len(started), lanes.waiting, lanes.fast_free) == (2, 2 * AHEAD - 2, 6)
        lanes.end(started[0], 0.01, answered=True)
        assert lanes.may_start(keys[-1])

    def test_of_all_endpoints_together_as_many_as_may_wait(self, lanes):
        endpoints = [uuid4() for _ in range(20)]
        for endpoint_id in endpoints:
            know(lanes, endpoint_id)
        assert sum(len(claim_all(lanes, endpoint_id)) for endpoint_id in endpoints) == 28

    def test_of_an_unknown_endpoint_no_more_than_can_go_out(self, lanes):
        assert len(claim_all(lanes, HEALTHY)) == 2

    def test_what_waits_for_one_that_turned_slow_is_stuck(self, lanes, clock):
        know(lanes, HANGING)
        keys = claim_all(lanes, HANGING)
        for key in keys[:2]:
            lanes.start(key)
        assert not lanes.is_stuck(keys[-1])
        clock.now = 1
        lanes.sort()
        assert not lanes.may_start(keys[-1])
        assert lanes.is_stuck(keys[-1])
        for key in keys[2:]:
            lanes.drop(key)
        assert (lanes.waiting, lanes.out, lanes.fast_free) == (0, 2, 8)
