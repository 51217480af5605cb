"""Asking what may never answer, without waiting for ever."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import connection

A = TypeVar("A")


class Question(Generic[A]):
    """A function that is called in a thread of its own, and waited for only so long.

    Whoever asks while it still runs waits for the same call: one that hangs holds one thread and one database
    connection, however often it is asked.
    """

    def __init__(self, function: Callable[[], A]) -> None:
        self._function = function
        self._asking = threading.Lock()
        self._call: _Call[A] | None = None

    def ask(self) -> None:
        with self._asking:
            if self._call is None or self._call.done.is_set():
                self._call = _Call(self._function)
                # A daemon: one that hangs must not keep its process from ending.
                threading.Thread(target=self._call.run, name="question", daemon=True).start()

    def answer(self, patience: float) -> A | None:
        """What came of the running call, or None when nothing has within `patience` seconds. Raises what it raised."""
        call = self._call
        if call is None or not call.done.wait(max(0.0, patience)):
            return None
        if call.error is not None:
            raise call.error
        return call.result


class _Call(Generic[A]):
    def __init__(self, function: Callable[[], A]) -> None:
        self._function = function
        self.done = threading.Event()
        self.result: A | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:
            self.error = error
        finally:
            connection.close()
            self.done.set()
