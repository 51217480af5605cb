"""The queue below the Socket.IO door does what Engine.IO expects of `asyncio.Queue`."""

import asyncio

import pytest
from engineio.packet import MESSAGE, Packet

from notifications.sockets import limits
from notifications.sockets.packet_queue import PacketQueue


@pytest.fixture(params=[PacketQueue, asyncio.Queue])
async def queue(request) -> PacketQueue:
    """Ours, and what it stands for."""
    return request.param()


async def test_packets_come_out_in_order_whoever_waits_first(queue):
    await queue.put(1)
    queue.put_nowait(2)
    assert (queue.qsize(), await asyncio.wait_for(queue.get(), 1), queue.get_nowait()) == (2, 1, 2)
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()
    waiting = [asyncio.ensure_future(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    for number in (3, 4, 5):
        queue.put_nowait(number)
    assert await asyncio.gather(*waiting) == [3, 4]
    assert queue.get_nowait() == 5


async def test_a_reader_that_gave_up_gets_nothing(queue):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.001)
    queue.put_nowait(1)
    assert await asyncio.wait_for(queue.get(), 1) == 1


async def test_join_waits_until_everything_is_done(queue):
    await queue.join()
    queue.put_nowait(1)
    queue.put_nowait(2)
    joining = [asyncio.ensure_future(queue.join()) for _ in range(2)]
    joining[1].cancel()  # which is nothing to the other
    queue.get_nowait()
    queue.task_done()
    await asyncio.sleep(0)
    assert not joining[0].done()
    queue.get_nowait()
    queue.task_done()
    await asyncio.wait_for(joining[0], 1)


async def test_what_was_taken_but_not_done_is_unsent():
    queue = PacketQueue()
    queue.put_nowait(1)
    queue.get_nowait()
    assert (queue.qsize(), queue.unsent) == (0, 1)
    queue.task_done()
    assert queue.unsent == 0


async def test_it_knows_when_more_waits_than_anybody_should_have_to(monkeypatch):
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 3)
    monkeypatch.setattr(limits, "OUTBOX_CHARACTERS", 10)
    queue = PacketQueue()
    for packet in (Packet(MESSAGE, data="12345"), Packet(MESSAGE, data=b"12345"), None):
        assert not queue.is_full
        queue.put_nowait(packet)
    assert queue.is_full  # three
    await queue.get()
    assert not queue.is_full
    await queue.get()
    queue.put_nowait(Packet(MESSAGE, data="12345678901"))
    assert queue.is_full  # eleven characters
    while queue.qsize():
        queue.get_nowait()
    assert (queue.is_full, queue._characters) == (False, 0)
