"""The sockets that the web server listens on.

The supervisor opens them and the web process inherits them: a taken port is found before anything starts, and while
the web process is restarted connections wait instead of being refused.
"""

import errno
import socket
import time
from contextlib import suppress

BACKLOG = 1024
# A port may still be held for a moment by what was killed a moment ago.
PATIENCE = 1.0


class PortTaken(Exception):
    """Another program listens there."""


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of `host`; for localhost these are 127.0.0.1 and, where there is one, ::1.

    Raises PortTaken, or OSError for a host that is not ours and a port that is not allowed.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _open_all(host, port)
        except PortTaken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _open_all(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    missing: OSError | None = None
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        try:
            opened.append(_open(socket.AddressFamily(family), address))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close(opened)
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken from None
                raise
            missing = error  # localhost may have a name for IPv6 on a machine without it
    if not opened:
        raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    return opened


def _open(family: socket.AddressFamily, address: tuple) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _close(sockets: list[socket.socket]) -> None:
    for opened in sockets:
        with suppress(OSError):
            opened.close()
