"""Starts the programs of one system, keeps them running, and stops them together."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

TICK = 0.1  # seconds between two looks
STOPPING_GRACE = 10.0  # seconds to end by themselves; what is cut off then is done again after the next start
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds before a program that died is started again; doubles in between
STEADY = 30.0  # seconds after which a program counts as running, and its next death as the first one


@dataclass(frozen=True)
class Program:
    """What to run. `descriptors` are inherited under the same numbers."""

    name: str
    command: Sequence[str]
    descriptors: tuple[int, ...] = ()


class StartFailed(Exception):
    """A program ended before the system was ready: nobody needs it started a second time to see why."""


class _Child:
    """One program's process, and when to start it again."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen | None = None
        self.started_at = 0.0
        self.start_at: float | None = 0.0  # None while it runs
        self.deaths = 0

    def start(self, environment: Mapping[str, str], folder: Path, lifeline: int) -> None:
        # A session of its own, so that the terminal's Ctrl-C reaches the supervisor only: it stops the children.
        self.process = subprocess.Popen(  # noqa: S603 - our own commands, never a user's words
            self.program.command,
            stdin=lifeline,
            env=environment,
            cwd=folder,
            pass_fds=self.program.descriptors,
            start_new_session=True,
        )
        self.started_at, self.start_at = time.monotonic(), None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def next_delay(self) -> float:
        """Seconds to wait before the start that follows this death."""
        if time.monotonic() - self.started_at >= STEADY:
            self.deaths = 0
        self.deaths += 1
        return min(FIRST_DELAY * 2 ** (self.deaths - 1), LONGEST_DELAY)

    def how_it_ended(self) -> str:
        code = self.process.returncode if self.process else 0
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def send(self, how: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(how)


class Supervisor:
    """Runs programs until it is told to stop (SIGINT, SIGTERM, SIGHUP).

    A program that dies is started again, later and later; one that dies before `is_ready` was ever true raises
    StartFailed. `say` gets a line for a person to read. Children die with this process, however it dies (see
    `lifeline`).
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        environment: Mapping[str, str],
        folder: Path,
        is_ready: Callable[[], bool],
        on_ready: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._children = [_Child(program) for program in programs]
        self._environment = environment
        self._folder = folder
        self._is_ready = is_ready
        self._on_ready = on_ready
        self._say = say
        self._ready = False
        self._stops = 0
        self._lifeline, self._lifeline_end = os.pipe()

    def run(self) -> None:
        with self._signals():
            try:
                while not self._stops:
                    for child in self._children:
                        self._tend(child)
                    if not self._ready and self._is_ready():
                        self._ready = True
                        self._on_ready()
                    time.sleep(TICK)
                self._say("Stopping …")
            finally:
                self._stop()

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.start_at is not None:
            if now >= child.start_at:
                child.start(self._environment, self._folder, self._lifeline)
        elif not child.is_running:
            ended = f"{child.program.name} ended ({child.how_it_ended()})"
            if not self._ready:
                raise StartFailed(f"{ended} before the system was ready; what it said stands above.")
            delay = child.next_delay()
            child.start_at = now + delay
            self._say(f"{ended}; starting it again in {delay:g} s.")

    def _stop(self) -> None:
        for child in self._children:
            child.send(signal.SIGTERM)
        deadline, asked = time.monotonic() + STOPPING_GRACE, self._stops
        while any(child.is_running for child in self._children):
            # Whoever asks a second time does not want to wait.
            if time.monotonic() > deadline or self._stops > max(asked, 1):
                for child in self._children:
                    child.send(signal.SIGKILL)
            time.sleep(TICK)
        os.close(self._lifeline)
        os.close(self._lifeline_end)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stops += 1

        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, stop) for number in caught]
        try:
            yield
        finally:
            for number, handler in zip(caught, before, strict=True):
                signal.signal(number, handler)
