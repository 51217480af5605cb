"""A cursor never skips: positions follow the commits, and what was numbered is sent, in order, come what may."""

import threading

import pytest
from django.db import connection, transaction

from notifications import publisher
from notifications.models import Event, EventStream
from tickets.models import Ticket

pytestmark = pytest.mark.django_db(transaction=True)


class Groups:
    """Stands in for the channel layer: keeps what was sent, and fails when told to."""

    def __init__(self):
        self.sent = []
        self.broken = False

    def __call__(self, messages):
        if self.broken:
            raise ConnectionError("the layer is gone")
        self.sent += messages

    @property
    def positions(self):
        return list(dict.fromkeys(message["position"] for _group, message in self.sent))


@pytest.fixture
def stream():
    """The stream's row: a flush of the test database takes away what the migration made."""
    EventStream.objects.get_or_create(pk=1)


@pytest.fixture
def groups(stream, customer, other_customer):
    groups = Groups()
    publisher.publish_once(groups)
    groups.sent.clear()
    return groups


def positions():
    return list(Event.objects.order_by("position").values_list("position", flat=True))


def test_events_get_consecutive_positions_and_are_sent_in_that_order(groups, customer):
    start = EventStream.objects.get().last_position
    for number in range(5):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)
    assert publisher.publish_once(groups) == 5
    assert groups.positions == list(range(start + 1, start + 6))
    titles = [message["payload_staff"].split('"title":"')[1][:8] for group, message in groups.sent if group == "staff"]
    assert titles == [f"Ticket {number}" for number in range(5)]
    assert publisher.publish_once(groups) == 0


def test_goes_to_the_groups_of_those_who_may_know(groups, customer, other_customer):
    ticket = Ticket.objects.create(title="Ticket", requester=customer)
    publisher.publish_once(groups)
    assert [group for group, _ in groups.sent] == ["staff", f"user.{customer.pk}"]
    groups.sent.clear()
    ticket.requester = other_customer
    ticket.save()
    publisher.publish_once(groups)
    assert [group for group, _ in groups.sent] == ["staff", f"user.{other_customer.pk}", f"user.{customer.pk}"]


def test_a_layer_that_is_gone_loses_nothing(groups, customer):
    Ticket.objects.create(title="Ticket", requester=customer)
    groups.broken = True
    with pytest.raises(ConnectionError):
        publisher.publish_once(groups)
    groups.broken = False
    assert publisher.publish_once(groups) == 1


def test_what_was_numbered_by_one_that_died_is_sent_by_the_next(groups, customer):
    Ticket.objects.create(title="Ticket", requester=customer)
    assert publisher.number_events() == 1  # and here it died
    assert publisher.publish_once(groups) == 1


def test_more_than_a_batch(groups, customer, monkeypatch):
    for number in range(7):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)
    while publisher.number_events(limit=3):
        pass
    monkeypatch.setattr(publisher, "BATCH", 3)
    sent = publisher.send_numbered(groups, limit=3)
    assert sent == 3
    publisher.publish_once(groups)
    assert len(groups.positions) == 7
    assert groups.positions == sorted(groups.positions)


@pytest.mark.postgresql
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs two writers at once: PostgreSQL")
def test_an_event_that_commits_late_is_not_skipped(groups, customer):
    """The first transaction to write commits last: its event has the smaller id and gets the larger position."""
    written, may_commit = threading.Event(), threading.Event()

    def slow_writer():
        with transaction.atomic():
            Ticket.objects.create(title="slow", requester_id=customer.pk)
            written.set()
            may_commit.wait(10)
        connection.close()

    slow = threading.Thread(target=slow_writer)
    slow.start()
    assert written.wait(10)
    Ticket.objects.create(title="quick", requester=customer)
    publisher.publish_once(groups)
    cursor = groups.positions[-1]
    may_commit.set()
    slow.join()
    publisher.publish_once(groups)
    assert titles(groups) == ["quick", "slow"]
    late = Event.objects.published().filter(position__gt=cursor).get()
    # The control: by id, the cursor of the quick one would have passed over the slow one for ever.
    assert late.pk < Event.objects.get(position=cursor).pk


@pytest.mark.postgresql
@pytest.mark.skipif(connection.vendor != "postgresql", reason="advisory locks: PostgreSQL")
def test_only_one_publishes_and_another_takes_over():
    first, second = publisher.Publisher(), publisher.Publisher()
    assert first._may_publish()
    answers = []

    def try_it():
        answers.append(second._may_publish())
        publisher._let_go()

    for _ in range(2):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        publisher._let_go()
    assert answers == [False, True]


def titles(groups):
    return [message["payload_staff"].split('"title":"')[1].split('"')[0] for g, message in groups.sent if g == "staff"]
