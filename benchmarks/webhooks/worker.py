"""`python -m benchmarks.webhooks.worker HOW`: a sender of one kind, measured. Says `ready`, waits for a line, sends.

`engine`: the product's loop, until it is idle. `bare URL COUNT`: `requests` sessions without any database.
`steps URL`: the product's loop, and as JSON what each of its steps cost.
"""

import json
import sys
import threading
import time

import django

BODY = b"x" * 700  # about as long as ours
BARE_THREADS = 1
"""One: more of them wait for each other, not for the receiver."""


def engine() -> float:
    from notifications.webhooks.engine import Engine

    sender = Engine(linger=0.3)
    return _measured(sender.run)


def burst() -> float:
    """The engine, and beside it the expansion of large audiences, as the worker runs both."""
    from django.db import connection

    from notifications import expansion
    from notifications.webhooks.engine import Engine

    sender = Engine(linger=3600)

    def expand() -> None:
        while expansion.expand_next_batch():
            sender.wake()
        connection.close()

    def ring() -> None:  # as each commit does
        while True:
            time.sleep(0.005)
            sender.wake()

    def run() -> None:
        for task in (sender.run, ring):
            threading.Thread(target=task, daemon=True).start()
        expand()
        print("expanded", flush=True)
        sys.stdin.readline()
        sender.stop()

    return _measured(run)


def steps(url: str) -> float:
    from benchmarks.webhooks.steps import Steps

    found: dict[str, float] = {}
    seconds = _measured(lambda: found.update(Steps().measure(BODY, url)))
    print(json.dumps(found), flush=True)
    return seconds


def bare(url: str, count: int) -> float:
    import requests  # noqa: TID251 - for comparison

    def send(times: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(times):
                session.post(url, data=BODY, timeout=15)

    def run() -> None:
        threads = [threading.Thread(target=send, args=(count // BARE_THREADS,)) for _ in range(BARE_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return _measured(run)


def _measured(run) -> float:  # type: ignore[no-untyped-def]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    django.setup()
    how, *arguments = sys.argv[1:]
    if how == "bare":
        seconds = bare(arguments[0], int(arguments[1]))
    elif how == "steps":
        seconds = steps(arguments[0])
    else:
        seconds = {"engine": engine, "burst": burst}[how]()
    print(f"seconds {seconds}", flush=True)
