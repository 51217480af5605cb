"""Three things that Daphne does otherwise than we need. Other servers are not touched.

- It sends a close code, but not the reason (django/daphne#374), though the library below it can.
- It takes whatever is sent to a client, however slowly that reads, and buffers it without a bound. Twisted tells a
  producer of data when to pause; we are one, and whoever sends then waits.
- Twisted, below it, reads every form into memory a second time before Django sees it, and answers one that it cannot
  read with a bare 400 of its own, where our API has an error to tell.
"""

import asyncio
from typing import Any

from daphne import cli, http_protocol
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Valve:
    """Shut while more is buffered for a client than Twisted's transport likes (64 KiB)."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        self._open.set()  # the connection is gone: nobody need wait for it


class ReasoningProtocol(WebSocketProtocol):
    valve: Valve | None = None

    def onOpen(self) -> None:
        self.valve = Valve()
        self.unregisterProducer()  # the HTTP channel, whose connection this was
        self.registerProducer(self.valve, True)
        super().onOpen()

    def handle_reply(self, message: dict[str, Any]) -> None:
        is_open = self.state == self.STATE_OPEN
        if is_open and message.get("type") == "websocket.close" and message.get("reason"):
            # int(): the library refuses anything but the very type, an IntEnum too.
            self.sendClose(code=int(message.get("code", 1000)), reason=message["reason"])
        else:
            super().handle_reply(message)


class PatientServer(Server):
    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        await super().handle_reply(protocol, message)
        valve = getattr(protocol, "valve", None)
        if valve is not None and message["type"] == "websocket.send":
            await valve.passed()


class UnparsedRequest(http_protocol.WebRequest):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})


def install() -> None:
    """Called where the ASGI application is made, before Daphne serves it."""
    WebSocketFactory.protocol = ReasoningProtocol
    cli.CommandLineInterface.server_class = PatientServer
    http_protocol.WebRequest = UnparsedRequest
