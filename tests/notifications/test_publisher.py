"""A cursor never skips: positions follow the commits, and what was numbered is sent, in order, come what may."""

import threading
import time

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from helpdesk.changes.actor import acting_as
from knowledge.models import Article, ArticleStatus
from notifications import publisher, publishing_lock
from notifications import stream as stream_module
from notifications.models import Event, EventStream, Notification
from tickets.models import Ticket

pytestmark = pytest.mark.django_db(transaction=True)


class Hubs:
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
        return [message["position"] for message in self.sent]


@pytest.fixture
def stream():
    """The stream's row: a flush of the test database takes away what the migration made."""
    EventStream.objects.get_or_create(pk=1)


@pytest.fixture
def hubs(stream, customer, other_customer):
    hubs = Hubs()
    publisher.publish_once(hubs)
    hubs.sent.clear()
    return hubs


def positions():
    return list(Event.objects.order_by("position").values_list("position", flat=True))


def test_events_get_consecutive_positions_and_are_sent_in_that_order(hubs, customer):
    start = EventStream.objects.get().last_position
    for number in range(5):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)
    assert publisher.publish_once(hubs) == 5
    assert hubs.positions == list(range(start + 1, start + 6))
    assert titles(hubs) == [f"Ticket {number}" for number in range(5)]
    assert publisher.publish_once(hubs) == 0


def test_a_layer_that_is_gone_loses_nothing(hubs, customer):
    Ticket.objects.create(title="Ticket", requester=customer)
    hubs.broken = True
    with pytest.raises(ConnectionError):
        publisher.publish_once(hubs)
    hubs.broken = False
    assert publisher.publish_once(hubs) == 1


def test_what_was_numbered_by_one_that_died_is_sent_by_the_next(hubs, customer):
    Ticket.objects.create(title="Ticket", requester=customer)
    assert publisher.number_events() == 1  # and here it died
    assert publisher.publish_once(hubs) == 1


def test_more_than_a_batch(hubs, customer, monkeypatch):
    for number in range(7):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)
    while publisher.number_events(limit=3):
        pass
    monkeypatch.setattr(publisher, "BATCH", 3)
    sent = publisher.send_numbered(hubs, limit=3)
    assert sent == 3
    publisher.publish_once(hubs)
    assert len(hubs.positions) == 7
    assert hubs.positions == sorted(hubs.positions)


@pytest.mark.postgresql
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs two writers at once: PostgreSQL")
def test_an_event_that_commits_late_is_not_skipped(hubs, customer):
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
    publisher.publish_once(hubs)
    cursor = hubs.positions[-1]
    may_commit.set()
    slow.join()
    publisher.publish_once(hubs)
    assert titles(hubs) == ["quick", "slow"]
    late = Event.objects.published().filter(position__gt=cursor).get()
    # The control: by id, the cursor of the quick one would have passed over the slow one for ever.
    assert late.pk < Event.objects.get(position=cursor).pk


@pytest.mark.postgresql
@pytest.mark.skipif(connection.vendor != "postgresql", reason="advisory locks: PostgreSQL")
def test_only_one_publishes_and_another_takes_over():
    assert publishing_lock.acquire()
    answers = []

    def try_it():
        answers.append((publishing_lock.acquire(), publishing_lock.sessions()))
        publishing_lock.let_go()

    for _ in range(2):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        publishing_lock.let_go()
    assert answers == [(False, (2, True)), (True, (1, True))]
    assert publishing_lock.sessions() == (0, False)


def test_one_that_was_overtaken_while_sending_marks_nothing(hubs, customer):
    """It woke up behind its successor: the mark never goes back."""
    for number in range(3):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)
    publisher.number_events()

    def send_slowly(messages):
        hubs(messages)
        Ticket.objects.create(title="Meanwhile", requester=customer)
        publisher.publish_once(hubs)

    with pytest.raises(publisher.Superseded):
        publisher.send_numbered(send_slowly, limit=1)
    stream = EventStream.objects.get()
    assert stream.sent_position == stream.last_position == hubs.positions[-1]


def test_an_audience_too_large_for_a_message_is_not_read(hubs, customer, admin, agent, monkeypatch):
    monkeypatch.setattr(stream_module, "NOTIFICATIONS_IN_MESSAGE", 1)
    with acting_as(admin):
        Article.objects.create(title="For all", body="Read.", author=admin, status=ArticleStatus.PUBLISHED)
    with CaptureQueriesContext(connection) as queries:
        publisher.publish_once(hubs)
    message = next(message for message in hubs.sent if message["entity"] == "kb_article")
    assert message["notifications"] is None
    assert Notification.objects.filter(event_id=message["event_id"]).count() > 2
    assert sum("ROW_NUMBER() OVER (PARTITION BY" in query["sql"] for query in queries) == 1


@pytest.fixture
def running(stream):
    """A publisher at work in a thread of its own, and what it sends."""
    hubs = Hubs()
    publisher_ = publisher.Publisher(hubs)
    publisher_.start()
    yield hubs
    publisher_.stop()


@pytest.mark.postgresql
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="advisory locks: PostgreSQL")
def test_one_that_stops_while_it_waits_lets_go_at_once(stream, monkeypatch):
    monkeypatch.setitem(publisher.LOOK_EVERY, "postgresql", 3600.0)
    stopping = publisher.Publisher(Hubs())
    stopping.start()
    eventually(lambda: publishing_lock.sessions() == (1, True))
    stopping.stop(timeout=20)
    assert not stopping.is_alive()
    eventually(lambda: publishing_lock.sessions() == (0, False))


def test_a_database_session_that_ends_is_replaced(running, customer):
    if connection.vendor == "postgresql":
        eventually(lambda: publishing_lock.sessions() == (1, True))
        end_sessions_of_publishers()
    ticket = Ticket.objects.create(title="After the restart", requester=customer)
    eventually(lambda: ticket.title in titles(running))


def test_a_bell_that_nobody_hears_is_made_up_for_by_looking(running, customer, monkeypatch):
    monkeypatch.setattr("notifications.bells.publisher_bell.set", lambda: None)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE notifications_event DISABLE TRIGGER notifications_event_bell")
        try:
            ticket = Ticket.objects.create(title="Unheard", requester=customer)
            eventually(lambda: ticket.title in titles(running))
        finally:
            if connection.vendor == "postgresql":
                cursor.execute("ALTER TABLE notifications_event ENABLE TRIGGER notifications_event_bell")


def end_sessions_of_publishers():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [publishing_lock.SESSION_NAME],
        )


def eventually(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def titles(hubs):
    tickets = [message["payload_staff"] for message in hubs.sent if message["entity"] == "ticket"]
    return [payload.split('"title":"')[1].split('"')[0] for payload in tickets]
