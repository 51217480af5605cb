"""The web process of `serve`: Daphne (API, admin and sockets) on sockets that the supervisor opened.

Run as `python -m helpdesk.management.serving.web DESCRIPTOR…`.
"""

import fcntl
import os
import socket
import sys

from helpdesk.management.serving import lifeline

# The first descriptor of the socket activation protocol (`sd_listen_fds(3)`), which Twisted's `systemd:` endpoints
# follow. Daphne's own `--fd` knows IPv4 only.
_FIRST_DESCRIPTOR = 3


def adopt(descriptors: list[int]) -> list[str]:
    """Pass listening sockets on to Twisted, and return the endpoints by which it knows them."""
    # Out of the way first: one socket's number may be another one's place.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_DESCRIPTOR + 100) for descriptor in descriptors]
    domains = []
    for index, descriptor in enumerate(moved):
        with socket.socket(fileno=descriptor) as listening:
            domains.append("INET6" if listening.family == socket.AF_INET6 else "INET")
            os.dup2(descriptor, _FIRST_DESCRIPTOR + index)
    names = [f"web{index}" for index in range(len(domains))]
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
    return [f"systemd:domain={domain}:name={name}" for domain, name in zip(domains, names, strict=True)]


def main() -> None:
    lifeline.watch()
    endpoints = adopt([int(argument) for argument in sys.argv[1:]])
    from daphne.cli import CommandLineInterface  # imports Twisted, which reads these variables at once

    arguments = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    # Verbosity 0: an access log of the embedded server tells nobody anything, and could hold what must not be logged.
    CommandLineInterface().run(["--verbosity", "0", "--no-server-name", *arguments, "helpdesk.asgi:application"])


if __name__ == "__main__":
    main()
