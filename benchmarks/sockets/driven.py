"""The ASGI application that is measured, and in its process a thread that makes events happen when it is told to.

`SERVED` names it: `product` is the whole of `helpdesk.asgi`; `textbook` is the consumer of Channels' tutorial, which
knows neither sign-in nor rights. For each line `emit N` on standard input, N events get their positions in the stream
and go through the process's channel layer. From there on all is as in production, unless `FRAMES` is `sent`: then each
goes through ASGI's `send`, which is what finished frames are compared with. They are sent here, not by the publisher,
since what is measured is the way from the layer to the clients, and since a process in between would be measured too.
"""

# ruff: noqa: I001 - `helpdesk.asgi` sets Django up
import asyncio
import itertools
import os
import sys
import threading
from typing import Any

from helpdesk.asgi import application as product

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer

from benchmarks.sockets.events import PRODUCT, TEXTBOOK, Stream, comment
from notifications.sockets import limits
from notifications.sockets.hub import hub
from notifications.sockets.outlet import Outlet
from notifications.stream import STREAM_GROUP

_numbers = itertools.count(1)
if os.environ.get("FRAMES") == "sent":
    Outlet.send_now = lambda self, frame: False  # type: ignore[method-assign]  # as on a server that it does not know
# How far the stream has come is not written down for each event, since that would be measured: nobody may look for it.
limits.LOOK_EVERY = 3_600.0


async def _emit(group: str, messages: list[dict[str, Any]]) -> None:
    layer = get_channel_layer()
    for message in messages:
        await layer.group_send(group, message)


class Textbook(AsyncJsonWebsocketConsumer):
    """As in the tutorial of Channels: one channel for each connection, JSON written for each client."""

    loop: asyncio.AbstractEventLoop | None = None
    group = "comments"

    async def connect(self) -> None:
        Textbook.loop = asyncio.get_running_loop()
        await self.accept()
        await self.send_json({"type": "ready"})

    async def receive_json(self, content: dict[str, Any], **_: Any) -> None:
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.send(f'{{"type":"ack","id":{content["id"]},"ok":true}}')

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def told(self, message: dict[str, Any]) -> None:
        await self.send_json(message["frame"])


def _textbook_messages(count: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "told",
            "frame": {
                "type": "event",
                "event": "comment.update",
                "action": "created",
                "data": comment(),
                "cursor": next(_numbers),
            },
        }
        for _ in range(count)
    ]


def _obey() -> None:
    stream = Stream()
    for line in sys.stdin:
        count = int(line.split()[1])
        if os.environ["SERVED"] == TEXTBOOK:
            loop, work = Textbook.loop, _emit(Textbook.group, _textbook_messages(count))
        else:
            loop, work = hub.loop, _emit(STREAM_GROUP, stream.next(count))
        assert loop is not None, "nobody is connected"
        asyncio.run_coroutine_threadsafe(work, loop)
    os._exit(0)  # whoever started us has ended


application = product if os.environ["SERVED"] == PRODUCT else Textbook.as_asgi()
threading.Thread(target=_obey, name="benchmark", daemon=True).start()
