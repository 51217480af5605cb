"""Malformed operations on both doors: an answer that says what was wrong, and a connection that goes on."""

import contextlib
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from .contract import check_refusal
from .people import People
from .sockets import PlainClient, SocketIoDriver
from .system import System

pytestmark = [pytest.mark.live, pytest.mark.once]

NOWHERE = "018f0000-0000-7000-8000-000000000000"
"""A well-formed id of nothing."""

ROOMS: list[Any] = [
    "nowhere",
    "",
    None,
    17,
    ["tickets"],
    "ticket:",
    "ticket:x",
    f"ticket:{NOWHERE}",
    "user.1",
    "staff",
    "x" * 5_000,
]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: repr(room)[:30])
def test_an_unknown_room(cast: People, system: System, room: Any) -> None:
    check_refusal(cast.customer.socket.ask("join", room=room))
    with PlainClient(system.base, cast.customer.token) as plain:
        check_refusal(plain.ask("join", room=room))
        plain.join("tickets")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("join", [None]),
        ("join", ["tickets"]),
        ("join", [17]),
        ("join", [[]]),
        ("join", [{}]),
        ("join", [{"room": "tickets", "after": "garbage"}]),
        ("join", [{"room": "tickets", "after": {"a": 1}}]),
        ("leave", [{}]),
        ("leave", [{"room": "never-joined"}]),
        ("typing", [{}]),
        ("typing", [{"ticket_id": "x"}]),
        ("viewing", [{"ticket_id": NOWHERE}]),
        ("notification.read", [{"id": "x"}]),
        ("notification.read", [{"id": NOWHERE}]),
        ("auth", [{"token": "garbage"}]),
        ("auth", [{}]),
        ("no.such.operation", [{}]),
        ("ticket.update", [{"action": "created", "data": {"id": NOWHERE}}]),
    ],
    ids=str,
)
def test_a_malformed_operation_on_socket_io(
    cast: People, system: System, driver: SocketIoDriver, operation: str, arguments: list[Any]
) -> None:
    with driver.open(system.base, auth={"token": cast.customer.token}) as client:
        client.connected()
        check_refusal(client.ask(operation, *arguments))
        client.join("tickets")


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "",
        "{",
        "[]",
        "17",
        "null",
        '"join"',
        "{}",
        '{"type": null}',
        '{"type": 17}',
        '{"type": ["join"]}',
        '{"type": "no.such.operation", "id": 9}',
        '{"type": "join", "id": 9}',
        '{"type": "join", "id": 9, "room": {"a": 1}}',
        '{"type": "join", "id": {"a": 1}, "room": "nowhere"}',
        '{"type": "event", "event": "ticket.update", "data": {}}',
        '{"type": "ack", "id": 1, "ok": true}',
        "[" * 50_000,
        b"\x00\x01\x02",
        b'{"type": "join", "id": 9, "room": "nowhere"}',
    ],
    ids=lambda frame: repr(frame)[:40],
)
def test_a_malformed_plain_frame(people: People, system: System, frame: str | bytes) -> None:
    """An answer that says what was wrong, and the connection goes on."""
    with PlainClient(system.base, people.customer.token) as client:
        client.join("comments")
        client.send(frame)
        answer = client.frame(lambda it: it.get("ok") is False or "error" in it, f"a refusal of {frame!r:.60}")
        assert answer["error"]["code"]
        assert answer["error"]["message"]
        client.join("tickets")


def test_an_oversized_plain_frame(people: People, system: System) -> None:
    """Refused with an answer that says why."""
    with PlainClient(system.base, people.customer.token) as client:
        client.join("comments")
        client.send(json.dumps({"type": "join", "id": 9, "room": "x" * 200_000}))
        refusal = client.frame(lambda frame: "error" in frame, "a refusal")
        assert refusal["error"]["code"] == "too_large"


def test_a_frame_beyond_what_the_server_reads_at_all(people: People, system: System) -> None:
    """The server hangs up on whoever sends megabytes, and nobody else notices."""
    with PlainClient(system.base, people.customer.token) as client:
        client.join("comments")
        with contextlib.suppress(ConnectionClosed):
            client.send(json.dumps({"type": "join", "id": 9, "room": "x" * 5_000_000}))
        client.inbox.one(lambda message: message["kind"] == "closed", "the connection closed")
    with PlainClient(system.base, people.customer.token) as client:
        client.join("comments")
