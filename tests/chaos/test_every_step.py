"""A worker dies at each step of the state machine, one after the other: nothing is lost, and what comes twice is known.

Chance finds what nobody thought of (`test_webhooks_under_fire`); here is what everybody must have thought of.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.receiver import Receiver
from tests.chaos.worker import KILLED
from tests.live.system import REPOSITORY, installation

pytestmark = pytest.mark.chaos

COUNT = 5

# Whether some of the five may have arrived before it died, and so come again.
POINTS = {
    "claiming, not committed": False,
    "claimed, not loaded": False,
    "claimed, not sent": False,
    "sent, answer not taken in": True,
    "sent, not recorded": True,
    "recording, not committed": True,
    "recorded, not yet gone on": True,
    "gave back, not yet gone on": False,
    "failure recorded, not committed": False,
    "released, not yet claimed": False,
    "half open, not yet probed": False,
    "audience told, not committed": False,
    "audience told, not gone on": False,
    "slice redelivered, not committed": False,
    "slice redelivered, not gone on": False,
}


class Workers:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, *words: str) -> tuple[int, object]:
        """The exit code of a worker process, and what it said before its end."""
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        said = None
        while True:
            line = json.loads(self._process.stdout.readline())
            if isinstance(line, int):
                return line, said
            said = line

    def die(self, point: str, url: str) -> None:
        assert self.run("die", point, url, str(COUNT)) == (KILLED, None)

    def work(self, *options: str) -> dict[str, int]:
        """The states of all deliveries after the next worker has done what it can."""
        code, states = self.run("work", *options)
        assert code == 0
        return states


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with installation(tmp_path_factory.mktemp("steps")) as system:
        environment = {**os.environ, **system.environment, "DJANGO_SETTINGS_MODULE": "helpdesk.settings"}
        environment["LOG_LEVEL"] = "ERROR"
        environment.pop("REDIS_URL", None)  # nobody hears a bell here
        with subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            workers = Workers(process)
            assert workers.run("migrate") == (0, None)
            yield workers
            process.stdin.close()


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost(workers: Workers, point: str) -> None:
    with Receiver(refuses=1 if point.startswith("failure") else 0) as receiver:
        workers.die(point, receiver.url)
        before = receiver.taken.total()
        assert 0 < before <= COUNT if POINTS[point] else before == 0
        for _ in range(5):  # a probe lets one through, then more; and what is refused is tried again
            states = workers.work()
            if set(states) == {"delivered"}:
                break
        assert set(states) == {"delivered"}
        assert len(receiver.taken) == COUNT
        assert receiver.duplicates <= before
        assert all(len(bodies) == 1 for bodies in receiver.bodies.values()), "the same bytes each time"


def test_control_without_the_sweeper_some_never_arrive(workers: Workers) -> None:
    """What the tests of nothing lost must be able to see."""
    with Receiver() as receiver:
        workers.die("claimed, not sent", receiver.url)
        states = workers.work("--without-sweeper")
        lost = states["sending"]
        assert 0 < lost <= COUNT
        assert len(receiver.taken) == COUNT - lost
        # And with it, they do.
        assert set(workers.work()) == {"delivered"}
        assert len(receiver.taken) == COUNT
