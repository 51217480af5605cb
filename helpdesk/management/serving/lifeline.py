"""A child's tie to its supervisor: it must not outlive it, however the supervisor dies.

The supervisor holds the writing end of a pipe that is every child's standard input. Nothing is ever written to it;
it ends when the supervisor ends, and the kernel sees to that even after `kill -9`. Unlike PR_SET_PDEATHSIG this works
on every POSIX system.
"""

import os
import signal
import sys
import threading


def watch() -> None:
    """Die with the supervisor. To be called first thing in a child."""
    threading.Thread(target=_wait, name="lifeline", daemon=True).start()


def _wait() -> None:
    while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1):
        pass
    # No clean-up: the supervisor is gone without a word, and all of this is built to be killed at any moment.
    os.kill(os.getpid(), signal.SIGKILL)
