"""What `docs/realtime.md` says of rooms, operations, codes and limits is what the code does."""

import re

from notifications.sockets import limits, operations, plain_door, presence, rooms
from notifications.sockets.events import _UPDATE_NAMES
from notifications.sockets.refusal import CloseCode
from tests.documentation.pages import REPOSITORY, Page, code_words

PAGE = Page("docs/realtime.md")
SOURCES = "\n".join(file.read_text() for file in sorted((REPOSITORY / "notifications/sockets").glob("*.py")))


def test_every_close_code():
    documented = [(int(code), name.strip("`")) for code, name, _why, _what in PAGE.table("close code")]
    assert documented == [(int(code), code.name) for code in CloseCode]


def test_every_refusal_code():
    used = set(re.findall(r'Refusal\(\s*"(\w+)"', SOURCES))
    used |= set(re.findall(r'CloseCode\.\w+,\s*"(\w+)"', SOURCES))
    assert used == {code for row in PAGE.table("`code`") for code in code_words(row[0])}


def test_every_reason_to_start_over():
    used = set(re.findall(r'TooMuchMissed\(\s*"(\w+)"', SOURCES)) | set(
        re.findall(r'ask_to_fetch\([^"]*"(\w+)"', SOURCES)
    )
    assert used == {reason for row in PAGE.table("`reason`") for reason in code_words(row[0])}
    assert f"{limits.REPLAY_EVENTS:,} events were missed" in PAGE.text


def test_every_operation():
    assert [code_words(row[0])[0] for row in PAGE.table("operation")] == list(operations.OPERATIONS)


def test_every_room():
    documented = {code_words(row[0])[0] for row in PAGE.table("room")}
    assert documented == {*rooms.PLAIN_ROOMS, "ticket:<id>"}


def test_which_event_comes_in_which_room():
    for entity, event in _UPDATE_NAMES.items():
        ((_event, payload, comes),) = [row for row in PAGE.table("event") if row[0] == f"`{event}`"]
        expected = set(rooms.rooms_of(entity, "<id>"))
        if rooms.OWN in expected:
            assert comes.startswith("without a room"), event
        else:
            assert set(code_words(comes)) == expected, event
        assert payload == "`{action, data, cursor}`"


def test_every_limit():
    documented = {
        name: float(re.sub(r"[^\d.]", "", value)) * (1024 if value.endswith("KiB") else 1)
        for name, value in PAGE.table("limit")
    }
    assert documented == {
        "a frame from a client": limits.FRAME_BYTES,
        "time to sign in on a connection": limits.SIGN_IN_SECONDS,
        "operations of one connection in the long run": limits.OPERATIONS_PER_SECOND,
        "operations of one connection at once": limits.OPERATIONS_AT_ONCE,
        "rooms of one connection": limits.ROOMS_PER_CONNECTION,
        "operations and rooms of all connections of one person together, on each server process": (
            limits.BUSY_CONNECTIONS
        ),
        "connections of one person, on each server process": limits.CONNECTIONS_PER_PERSON,
        "events waiting for a slow client": limits.OUTBOX_FRAMES,
        "characters waiting for a slow client": limits.OUTBOX_CHARACTERS,
        "events of a replay": limits.REPLAY_EVENTS,
        "events, of everybody's, that a replay looks through": limits.REPLAY_SPAN,
        f"time to read {limits.REPLAY_PAGE} events of a replay": limits.REPLAY_PATIENCE,
        "`typing` fades after": presence.TYPING_SECONDS,
        "`presence` fades after": presence.VIEWING_SECONDS,
    }


def test_the_subprotocols():
    assert f"`{plain_door.SUBPROTOCOL}` and `{plain_door.BEARER}<token>`" in PAGE.text
