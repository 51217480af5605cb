"""Two things that Daphne does otherwise than we need. Other servers are not touched.

- It sends a close code, but not the reason (django/daphne#374), though the library below it can.
- Twisted, below it, reads every form into memory a second time before Django sees it, and answers one that it cannot
  read with a bare 400 of its own, where our API has an error to tell.
"""

from typing import Any

from daphne import http_protocol
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol


class ReasoningProtocol(WebSocketProtocol):
    def handle_reply(self, message: dict[str, Any]) -> None:
        is_open = self.state == self.STATE_OPEN
        if is_open and message.get("type") == "websocket.close" and message.get("reason"):
            # int(): the library refuses anything but the very type, an IntEnum too.
            self.sendClose(code=int(message.get("code", 1000)), reason=message["reason"])
        else:
            super().handle_reply(message)


class UnparsedRequest(http_protocol.WebRequest):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})


def install() -> None:
    """Called where the ASGI application is made, before Daphne serves it."""
    WebSocketFactory.protocol = ReasoningProtocol
    http_protocol.WebRequest = UnparsedRequest
