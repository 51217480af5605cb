"""What arrives from elsewhere, kept in order of arrival, with a way to wait for it."""

import threading
import time
from collections.abc import Callable
from typing import Any

WAIT = 30.0
"""Seconds after which something expected counts as lost. Waiting ends with the arrival, so a high bound is free."""


class Inbox:
    """Messages appended by a reader thread and awaited by a test."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._arrival = threading.Condition()

    def put(self, message: dict[str, Any]) -> None:
        with self._arrival:
            self._messages.append(message)
            self._arrival.notify_all()

    def all(self, matches: Callable[[dict[str, Any]], bool] = lambda message: True) -> list[dict[str, Any]]:
        with self._arrival:
            return [message for message in self._messages if matches(message)]

    def wait_for(
        self, matches: Callable[[dict[str, Any]], bool], what: str, count: int = 1, timeout: float = WAIT
    ) -> list[dict[str, Any]]:
        """The matching messages as soon as there are `count` of them; AssertionError with what came instead."""
        deadline = time.monotonic() + timeout
        with self._arrival:
            while True:
                found = [message for message in self._messages if matches(message)]
                if len(found) >= count:
                    return found
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    latest = "\n  ".join(str(message)[:300] for message in self._messages[-12:]) or "nothing"
                    raise AssertionError(
                        f"waited {timeout:.0f} s for {count} × {what}, got {len(found)}. Latest arrivals:\n  {latest}"
                    )
                self._arrival.wait(remaining)

    def one(self, matches: Callable[[dict[str, Any]], bool], what: str, timeout: float = WAIT) -> dict[str, Any]:
        return self.wait_for(matches, what, timeout=timeout)[0]


def eventually(check: Callable[[], Any], what: str, timeout: float = WAIT) -> Any:
    """The first truthy answer of `check`, for what can only be asked and not awaited (an HTTP API, a process)."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.1)
