"""The end of a process that serves sockets: connections are sent away first, and only then is the server told.

A server that gets SIGTERM closes every connection in the same moment, and thousands of clients come back in the next
one. ASGI's `lifespan.shutdown` comes too late to do better (uvicorn has closed them all by then), and Daphne has no
lifespan. So we stand before the server's own signal handler, whichever server it is: the first signal sends the
connections away (`Hub.go_away`), lets another process publish, and is then passed on; a second one is passed on at
once. Requests are served all the while.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.conf import settings
from twisted.internet import reactor

from notifications import publisher
from notifications.sockets import socketio_door
from notifications.sockets.connection import in_background
from notifications.sockets.hub import hub

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The part of the time in which connections are told; the rest is for those that read their farewell slowly.
_TELLING = 0.7

_Handler = Callable[[int, FrameType | None], Any]


class Shutdown:
    """What happens between the first signal and the server's own end."""

    def __init__(self) -> None:
        self._has_begun = False

    def watch(self) -> None:
        """Stand before the server's handlers. Called in its event loop, when it has set them."""
        if threading.current_thread() is not threading.main_thread():
            return  # a server inside of another program, which gets the signals
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            server = signal.getsignal(number)
            if callable(server):
                signal.signal(number, self._before(server, loop))

    def _before(self, server: _Handler, loop: asyncio.AbstractEventLoop) -> _Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._has_begun:
                server(number, frame)
            else:
                self._has_begun = True
                loop.call_soon_threadsafe(lambda: in_background(self._leave(server, number)))

        return handle

    async def _leave(self, server: _Handler, number: int) -> None:
        try:
            await leave()
        finally:
            server(number, None)


async def leave() -> None:
    """Send every connection away and stop publishing; bounded by SHUTDOWN_SECONDS and the 5 of the publisher."""
    try:
        async with asyncio.timeout(settings.SHUTDOWN_SECONDS):
            await hub.go_away(settings.SHUTDOWN_SECONDS * _TELLING)
            await socketio_door.close_the_rest()
    except TimeoutError:
        logger.warning("Some connections did not read that this process ends; they are cut off.")
    await asyncio.to_thread(publisher.stop)


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI's lifespan: uvicorn calls it when it has set its signal handlers."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            Shutdown().watch()
            await send({"type": "lifespan.startup.complete"})
        else:
            await asyncio.to_thread(publisher.stop)  # for a server that was ended without a signal
            await send({"type": "lifespan.shutdown.complete"})
            return


def watch_daphne() -> None:
    """Twisted sets its signal handlers when its reactor starts to run. Under another server it never runs."""
    running: Any = reactor
    running.callWhenRunning(lambda: running.callLater(0, Shutdown().watch))
