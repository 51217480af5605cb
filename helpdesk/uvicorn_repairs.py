"""One thing that uvicorn does otherwise than we need. Other servers are not touched.

When a client answers no ping, or not our close, uvicorn (0.54, `--ws websockets-sansio`) closes the transport, and
asyncio first waits until the client has taken what is buffered for it. A client that is frozen while its network
answers never takes it: its connection and the buffer would stay for ever. So the transport is aborted instead.

These are private methods, set on the library's class because `--ws` names it; `tests/sockets/test_back_pressure.py`
notices when they change.
"""

import sys
from typing import Any


def install() -> None:
    """Called where the ASGI application is made. Without uvicorn, which is no requirement, there is nothing to do."""
    if "uvicorn" not in sys.modules:
        return
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    protocol: Any = WebSocketsSansIOProtocol
    ping, timeout = protocol.send_keepalive_ping, protocol.keepalive_timeout

    def send_keepalive_ping(self: Any) -> None:
        if self.close_sent or self.transport.is_closing():
            _abort_later(self)
        else:
            ping(self)

    def keepalive_timeout(self: Any) -> None:
        if self.close_sent or self.transport.is_closing():
            _abort_later(self)
        else:
            timeout(self)
            self.transport.abort()

    def _abort_later(self: Any) -> None:
        # Our close was sent a moment ago, perhaps: as long again as uvicorn itself waits for the answer.
        self.loop.call_later(self.close_timeout, self.transport.abort)

    protocol.send_keepalive_ping, protocol.keepalive_timeout = send_keepalive_ping, keepalive_timeout
