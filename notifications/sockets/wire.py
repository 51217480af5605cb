"""The two forms in which an event goes over the wire. Fields come as JSON text, so that big ones are encoded once."""

from collections.abc import Callable, Mapping

from notifications.payloads import encode

Form = Callable[[str, Mapping[str, str]], str]


def plain_form(event: str, fields: Mapping[str, str]) -> str:
    """`{"type": "event", "event": "ticket.update", …fields}`.

    The frame's own `type` and `event` stand before fields of that name: a notification's type is found under
    `notification`.
    """
    own = _members({name: value for name, value in fields.items() if name not in ("type", "event")})
    return f'{{"type":"event","event":{encode(event)}{"," if own else ""}{own}}}'


def socketio_form(event: str, fields: Mapping[str, str]) -> str:
    """A Socket.IO EVENT packet of the default namespace (protocol version 5): `2["ticket.update",{…fields}]`."""
    return f"2[{encode(event)},{{{_members(fields)}}}]"


def _members(fields: Mapping[str, str]) -> str:
    return ",".join(f"{encode(name)}:{value}" for name, value in fields.items())
