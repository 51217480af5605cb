"""How the process's one channel is read."""

import asyncio
import itertools
from typing import Any

import pytest

from notifications.sockets.subscription import Subscription


async def test_a_burst_lets_the_transports_write_between_its_events(in_process_layer):
    handled: list[int] = []
    done = asyncio.Event()

    async def handle(message: dict[str, Any]) -> None:
        handled.append(message["number"])
        if len(handled) == 50:
            done.set()

    subscription = Subscription(handle)
    await subscription.change(leave=frozenset(), enter=frozenset({"staff"}))
    (channel,) = in_process_layer.groups["staff"]
    for number in range(50):
        await in_process_layer.send(channel, {"type": "any", "number": number})  # waits for nobody
    seen = []
    async with asyncio.timeout(10):
        while not done.is_set():
            seen.append(len(handled))
            await asyncio.sleep(0)
    assert handled == list(range(50))
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 2
    await subscription.close()


async def test_a_group_that_the_layer_did_not_hear_of_is_joined_with_the_next_renewal(in_process_layer, monkeypatch):
    async def handle(message: dict[str, Any]) -> None:
        pass

    async def gone(*arguments: Any) -> None:
        raise ConnectionError("no Redis")

    subscription = Subscription(handle)
    with monkeypatch.context() as patch:
        patch.setattr(in_process_layer, "group_add", gone)
        with pytest.raises(ConnectionError):
            await subscription.change(leave=frozenset(), enter=frozenset({"staff"}))
    await subscription.renew()
    assert subscription.is_in("staff")
    assert "staff" in in_process_layer.groups
    await subscription.change(leave=frozenset({"staff"}), enter=frozenset())
    await subscription.renew()
    assert "staff" not in in_process_layer.groups
    await subscription.close()
