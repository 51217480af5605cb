"""Several publishers, each in a process of its own, on a real PostgreSQL: killed, frozen and woken up while changes
are written. Whoever listens sees every position, in order, whatever happens to them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction

from notifications import publishing_lock
from notifications.models import Event, EventStream
from tickets.models import Ticket

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="one publisher of several: PostgreSQL"),
]

REPOSITORY = Path(__file__).resolve().parents[2]
SILENCE = 2
PATIENCE = 40.0

PROGRAM = """
import os, sys, time
import django
django.setup()
from django.db import connections
from notifications import publisher, publishing_lock

database, log, pause = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND), float(sys.argv[3])
connections.settings["default"]["NAME"] = connections["default"].settings_dict["NAME"] = database
publishing_lock.SILENCE = float(sys.argv[4])

def send(messages):
    for message in messages:
        os.write(log, b"%d %d\\n" % (os.getpid(), message["position"]))
        time.sleep(pause)

publisher.Publisher(send).run()
"""


class Publishers:
    """Processes that publish into one file: a line for each position, with the process that sent it."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "sent"
        self.log.touch()
        self.processes: list[subprocess.Popen] = []

    def start(self, pause: float = 0.0, silence: float = SILENCE) -> subprocess.Popen:
        arguments = [str(connection.settings_dict["NAME"]), str(self.log), str(pause), str(silence)]
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=REPOSITORY, env=os.environ)
        self.processes.append(process)
        return process

    def sent(self) -> list[tuple[int, int]]:
        lines = self.log.read_text().splitlines()
        return [(int(pid), int(position)) for pid, position in map(str.split, lines)]

    def shown(self) -> list[int]:
        """What a hub shows: it takes positions in rising order and ignores what it has had."""
        shown: list[int] = []
        for _pid, position in self.sent():
            if not shown or position > shown[-1]:
                shown.append(position)
        return shown

    def latest(self) -> int:
        return self.sent()[-1][0]

    def end(self) -> None:
        for process in self.processes:
            process.kill()  # a frozen one, too
            process.wait()


@pytest.fixture
def publishers(tmp_path: Path) -> Iterator[Publishers]:
    EventStream.objects.get_or_create(pk=1)
    started = Publishers(tmp_path)
    yield started
    started.end()


def eventually(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def write(customer, count: int) -> None:
    for number in range(count):
        Ticket.objects.create(title=f"Ticket {number}", requester=customer)


def all_sent(publishers: Publishers) -> bool:
    if Event.objects.filter(position=None).exists():
        return False
    stream = EventStream.objects.get()  # after that, or what gets its number in between is overlooked
    return stream.sent_position == stream.last_position


def assert_complete(publishers: Publishers) -> None:
    """Every position, each shown once, in order: from the first that was sent to the last there is."""
    assert publishers.shown() == list(range(1, EventStream.objects.get().last_position + 1))


def test_killed_ones_are_replaced_and_nothing_is_missed(publishers, customer):
    workers = [publishers.start(pause=0.01) for _ in range(2)]
    for _round in range(3):
        write(customer, 30)
        eventually(lambda: publishers.sent())
        victim = next(process for process in workers if process.pid == publishers.latest())
        victim.kill()
        workers.remove(victim)
        workers.append(publishers.start(pause=0.01))
        write(customer, 5)
        dead = victim.pid
        eventually(lambda dead=dead: publishers.latest() != dead)
    eventually(lambda: all_sent(publishers))
    assert_complete(publishers)


def test_a_frozen_one_is_replaced_and_harms_nobody_when_it_wakes_up(publishers, customer):
    first = publishers.start(pause=0.05)
    eventually(lambda: publishing_lock.sessions() == (1, True))
    second = publishers.start()
    eventually(lambda: publishing_lock.sessions() == (2, True))
    with transaction.atomic():  # one batch, in the middle of which it freezes
        write(customer, 30)
    eventually(lambda: len(publishers.sent()) > 3)
    first.send_signal(signal.SIGSTOP)
    frozen_at = publishers.sent()[-1]
    assert frozen_at[0] == first.pid
    write(customer, 10)
    eventually(lambda: publishers.latest() == second.pid and all_sent(publishers))
    marked = EventStream.objects.get().sent_position
    first.send_signal(signal.SIGCONT)
    # Awake again, it sends what it held in memory: the control, without which the rest would show nothing.
    eventually(lambda: (first.pid, frozen_at[1] + 1) in publishers.sent())
    eventually(lambda: publishing_lock.sessions() == (2, True))
    assert EventStream.objects.get().sent_position >= marked
    write(customer, 5)
    eventually(lambda: all_sent(publishers))
    assert_complete(publishers)
    after = publishers.sent()[-5:]
    assert {pid for pid, _position in after} == {second.pid}


def test_the_control_without_it_a_frozen_one_stops_everything(publishers, customer):
    first = publishers.start()
    write(customer, 3)
    eventually(lambda: all_sent(publishers) and publishers.sent())
    publishers.start(silence=3600)
    eventually(lambda: publishing_lock.sessions() == (2, True))
    first.send_signal(signal.SIGSTOP)
    write(customer, 3)
    time.sleep(SILENCE * 2)
    assert Event.objects.filter(position=None).count() == 3
    first.send_signal(signal.SIGCONT)
    eventually(lambda: all_sent(publishers))
    assert_complete(publishers)
