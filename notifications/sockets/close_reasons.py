"""Daphne sends a close code, but not the reason (django/daphne#374), though the library below it can.

`install` teaches it to. Other servers pass the reason on by themselves and are not touched.
"""

from typing import Any

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol


class ReasoningProtocol(WebSocketProtocol):
    def handle_reply(self, message: dict[str, Any]) -> None:
        is_open = self.state == self.STATE_OPEN
        if is_open and message.get("type") == "websocket.close" and message.get("reason"):
            self.sendClose(code=message.get("code", 1000), reason=message["reason"])
        else:
            super().handle_reply(message)


def install() -> None:
    WebSocketFactory.protocol = ReasoningProtocol
