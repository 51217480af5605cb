"""A connection's outbox: order, bounds, and an end that loses nothing silently."""

import asyncio

import pytest

from notifications.sockets import limits
from notifications.sockets.connection import Connection, in_background
from notifications.sockets.people import Person
from notifications.sockets.refusal import CloseCode
from notifications.sockets.wire import plain_form


class FakeDoor:
    """Takes frames while `open_` is set; `ended` is how the connection was ended."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.open_ = asyncio.Event()
        self.open_.set()
        self.arrived = asyncio.Condition()
        self.ended: asyncio.Future[tuple[CloseCode, str, str]] = asyncio.get_running_loop().create_future()
        self.failure: Exception | None = None

    def send_now(self, frame: str) -> bool:
        return False

    async def send(self, frame: str) -> None:
        await self.open_.wait()
        if self.failure is not None:
            raise self.failure
        async with self.arrived:
            self.sent.append(frame)
            self.arrived.notify_all()

    async def end(self, code: CloseCode, code_name: str, reason: str, retry_after: float | None = None) -> None:
        self.ended.set_result((code, code_name, reason))

    async def has_sent(self, count: int) -> list[str]:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.sent) >= count)
        return self.sent


@pytest.fixture
async def door() -> FakeDoor:
    return FakeDoor()


@pytest.fixture
async def connection(door, customer) -> Connection:
    return Connection(door, plain_form, Person.of(customer), None)


async def test_frames_go_out_in_order_after_the_first_ones(connection, door):
    connection.queue("queued before the start")
    connection.start("ready", "ack")
    for number in range(100):
        connection.queue(str(number))
    assert await door.has_sent(103) == ["ready", "ack", "queued before the start", *map(str, range(100))]


async def test_what_the_transport_takes_at_once_needs_no_step_of_the_event_loop(connection, door):
    connection.start()
    await connection.outbox_empty()
    connection.queue("a")
    connection.queue("b")
    assert door.sent == ["a", "b"]


async def test_what_could_go_at_once_does_not_overtake_what_waits(connection, door, monkeypatch):
    connection.start()
    await connection.outbox_empty()
    door.open_.clear()
    connection.queue("a")
    monkeypatch.setattr(door, "send_now", lambda frame: door.sent.append(frame) is None)
    connection.queue("b")
    assert door.sent == []
    door.open_.set()
    await door.has_sent(2)
    await connection.outbox_empty()
    connection.queue("c")
    assert door.sent == ["a", "b", "c"]


async def test_one_who_leaves_in_the_middle_of_a_frame_is_sent_nothing_more(connection, door):
    connection.start()
    await connection.outbox_empty()
    door.open_.clear()
    connection.queue("a")
    connection.queue("b")
    connection.gone()
    door.open_.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert door.sent == []


async def test_a_full_outbox_closes_the_connection(connection, door, monkeypatch):
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 10)
    left = []
    connection.on_closed = left.append
    door.open_.clear()
    connection.start()
    for _ in range(10):
        connection.queue("x")
    assert not connection.is_closed
    connection.queue("one too many")
    assert connection.is_closed
    assert left == [connection]
    code, code_name, reason = await door.ended
    assert (code, code_name) == (CloseCode.SLOW, "slow")
    assert "cursor" in reason
    door.open_.set()
    connection.queue("after the end")
    await asyncio.sleep(0)
    assert door.sent == []


async def test_a_few_large_frames_fill_the_outbox_too(connection, door, monkeypatch):
    monkeypatch.setattr(limits, "OUTBOX_CHARACTERS", 100)
    door.open_.clear()
    connection.start()
    connection.queue("x" * 60)
    connection.queue("x" * 40)
    assert not connection.is_closed
    connection.queue("x")
    assert (await door.ended)[0] == CloseCode.SLOW


async def test_what_was_sent_makes_room(connection, door, monkeypatch):
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 3)
    monkeypatch.setattr(limits, "OUTBOX_CHARACTERS", 30)
    connection.start()
    for number in range(20):
        connection.queue("x" * 10)
        await door.has_sent(number + 1)
    assert not connection.is_closed


async def test_one_who_does_not_read_does_not_hold_back_another(connection, door, customer):
    other_door = FakeDoor()
    other = Connection(other_door, plain_form, Person.of(customer), None)
    door.open_.clear()
    connection.start()
    other.start()
    for it in (connection, other):
        it.queue("for both")
    assert await other_door.has_sent(1) == ["for both"]
    assert door.sent == []


async def test_a_transport_that_has_gone_ends_the_connection_quietly(connection, door, caplog):
    left = asyncio.get_running_loop().create_future()
    connection.on_closed = left.set_result
    door.failure = RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")
    connection.start("hello")
    async with asyncio.timeout(10):
        assert await left is connection
    assert connection.is_closed
    assert not door.ended.done()
    assert caplog.records == []


async def test_it_ends_once(connection, door):
    connection.start()
    connection.close(CloseCode.UNAUTHENTICATED, "first", "First")
    connection.close(CloseCode.SLOW, "second", "Second")
    connection.gone()
    assert (await door.ended)[1] == "first"


async def test_waiting_for_an_empty_outbox(connection, door):
    door.open_.clear()
    connection.start("a")
    waiting = asyncio.create_task(connection.outbox_empty())
    await asyncio.sleep(0)
    assert not waiting.done()
    door.open_.set()
    async with asyncio.timeout(10):
        await waiting
    assert door.sent == ["a"]


async def test_waiting_for_a_client_that_never_reads_ends_it(connection, door, monkeypatch):
    monkeypatch.setattr(limits, "REPLAY_PATIENCE", 0.01)
    door.open_.clear()
    connection.start("a")
    await connection.outbox_empty()
    assert (await door.ended)[0] == CloseCode.SLOW


async def test_the_end_of_the_sign_in_is_put_off_by_a_new_one(connection, door):
    connection.expires_at = 0.0
    connection.start()
    connection.sign_in_until(None)
    await asyncio.sleep(0)
    assert not connection.is_closed
    connection.sign_in_until(0.0)
    assert (await door.ended)[1] == "token_expired"


async def test_what_fails_in_the_background_is_logged(caplog):
    async def fails() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError):
        await in_background(fails())
    await asyncio.sleep(0)
    assert "lost" in caplog.text
