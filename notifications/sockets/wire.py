"""The two forms in which an event goes over the wire. Fields come as JSON text, so that big ones are encoded once."""

import struct
from collections.abc import Callable, Mapping
from functools import cached_property

from notifications.payloads import encode


class Frame(str):
    """What a connection is sent, as its door takes it; and what becomes of it, made once for all who are sent it."""

    prefix = ""

    @classmethod
    def prefixed(cls, prefix: str, text: str) -> "Frame":
        """A frame before whose text the protocol below the door puts `prefix`."""
        frame = cls(text)
        frame.prefix = prefix
        return frame

    @cached_property
    def message(self) -> str:
        """The text of the WebSocket message."""
        return f"{self.prefix}{self}"

    @cached_property
    def finished(self) -> bytes:
        """The WebSocket frame (RFC 6455, 5.2): final, text, unmasked, as a server sends it."""
        payload = self.message.encode()
        size = len(payload)
        if size < 126:
            header = struct.pack("!BB", 0x81, size)
        elif size < 65536:
            header = struct.pack("!BBH", 0x81, 126, size)
        else:
            header = struct.pack("!BBQ", 0x81, 127, size)
        return header + payload


Form = Callable[[str, Mapping[str, str]], Frame]

_ENGINE_MESSAGE = "4"


def plain_form(event: str, fields: Mapping[str, str]) -> Frame:
    """`{"type": "event", "event": "ticket.update", …fields}`.

    The frame's own `type` and `event` stand before fields of that name: a notification's type is found under
    `notification`.
    """
    own = _members({name: value for name, value in fields.items() if name not in ("type", "event")})
    return Frame(f'{{"type":"event","event":{encode(event)}{"," if own else ""}{own}}}')


def socketio_form(event: str, fields: Mapping[str, str]) -> Frame:
    """A Socket.IO EVENT packet of the default namespace (protocol version 5): `2["ticket.update",{…fields}]`.

    In a WebSocket message Engine.IO's mark of a message comes before it.
    """
    return Frame.prefixed(_ENGINE_MESSAGE, f"2[{encode(event)},{{{_members(fields)}}}]")


def _members(fields: Mapping[str, str]) -> str:
    return ",".join(f"{encode(name)}:{value}" for name, value in fields.items())
