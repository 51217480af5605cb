"""Where the processor time of a delivery goes: each step of the engine, measured while it works.

Only time on the processor counts, of the thread that does the step: waiting costs nothing here, and what else the
machine does changes little.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

COUNT = 2_000
"""Posts of one thread alone, of a bare session and ours."""


class Steps:
    """Microseconds of processor time for each delivery, by step, of one run of the engine and of a bare session."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._adding = threading.Lock()

    def measure(self, body: bytes, url: str) -> dict[str, float]:
        import requests  # noqa: TID251 - for comparison

        from notifications.webhooks import http, outcomes, queue, sending
        from notifications.webhooks.engine import Engine
        from notifications.webhooks.policy import current_policy

        post = http.post
        for owner, name in ((queue, "claim"), (sending, "send"), (http, "post"), (outcomes, "record")):
            setattr(owner, name, self._timed(name, getattr(owner, name)))
        began = time.process_time()
        count = Engine(linger=0.3).run()
        found = {"all": time.process_time() - began, **self._seconds}
        # `send` holds `post` in it: what is left is the body, its signature, the headers.
        found["sign"] = found.pop("send") - found["post"]
        found["rest"] = found["all"] - sum(found[name] for name in ("claim", "sign", "post", "record"))
        policy = current_policy()
        with requests.Session() as bare, http.open_session(policy) as ours:
            bare.trust_env = False
            alone = {
                "bare alone": _each(lambda: bare.post(url, data=body, timeout=15)),
                "post alone": _each(lambda: post(ours, url, body, {}, policy)),
            }
        return {name: 1e6 * seconds / count for name, seconds in found.items()} | alone

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                spent = time.thread_time() - began
                with self._adding:
                    self._seconds[name] += spent

        return timed


def _each(work: Callable[[], object]) -> float:
    """Microseconds of processor time that it takes this thread."""
    began = time.thread_time()
    for _ in range(COUNT):
        work()
    return 1e6 * (time.thread_time() - began) / COUNT
