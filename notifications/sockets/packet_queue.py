"""The queue in which Engine.IO keeps the packets of one session."""

import asyncio
from collections import deque
from typing import Any

from notifications.sockets import limits


class PacketQueue:
    """What Engine.IO uses of `asyncio.Queue`.

    It knows whether all of its packets have been taken to be sent (`unsent`), which is when a frame may pass it by, and
    whether there are more than anybody should have to wait for (`is_full`). And it is a sixth of the size: four deques,
    and a task for each wait, would be a tenth of what a connection costs.
    """

    __slots__ = ("_characters", "_drained", "_packets", "_readers", "unsent")

    def __init__(self) -> None:
        self.unsent = 0
        """Packets that were put in and not yet reported by `task_done`."""
        self._packets: deque[Any] | None = None  # most of the time nothing waits
        self._characters = 0
        self._readers: list[asyncio.Future[Any]] = []
        self._drained: asyncio.Future[None] | None = None

    def qsize(self) -> int:
        return len(self._packets or ())

    @property
    def is_full(self) -> bool:
        """Whether its client lets answers lie that it has asked for. More can be put in all the same."""
        return self.qsize() >= limits.OUTBOX_FRAMES or self._characters > limits.OUTBOX_CHARACTERS

    async def put(self, packet: Any) -> None:
        self.put_nowait(packet)

    def put_nowait(self, packet: Any) -> None:
        self.unsent += 1
        while self._readers:
            reader = self._readers.pop(0)
            if not reader.done():  # otherwise it has given up waiting
                reader.set_result(packet)
                return
        self._packets = self._packets or deque()
        self._packets.append(packet)
        self._characters += _size(packet)

    def get(self) -> asyncio.Future[Any]:
        """The next packet, to be awaited. A future, since `asyncio.wait_for` makes a task of anything else."""
        found = asyncio.get_running_loop().create_future()
        if self._packets:
            found.set_result(self.get_nowait())
        else:
            self._readers.append(found)
        return found

    def get_nowait(self) -> Any:
        """Raises asyncio.QueueEmpty."""
        if not self._packets:
            raise asyncio.QueueEmpty
        packet = self._packets.popleft()
        self._characters -= _size(packet)
        if not self._packets:
            self._packets = None
        return packet

    def task_done(self) -> None:
        self.unsent -= 1
        if not self.unsent and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def join(self) -> None:
        """Wait until all packets have been taken to be sent."""
        if self.unsent:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)


def _size(packet: Any) -> int:
    """Characters of what a packet carries; None ends the queue."""
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str | bytes) else 0
