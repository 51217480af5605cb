"""Changes made and published from inside an event loop, and what a client was told of them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from channels.db import database_sync_to_async

from knowledge.models import Article, ArticleStatus
from notifications import publisher
from notifications.sockets import replay
from notifications.sockets.hub import hub

from .clients import Client, Payload

_send_to_layer = publisher.send_to_layer


async def do(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run something that touches the database, publish what it changed, and wait until this process knows."""

    def work_and_publish() -> tuple[Any, int]:
        result = work(*arguments, **named)
        publisher.publish_once()
        return result, replay.last_position()

    result, last = await database_sync_to_async(work_and_publish)()
    if publisher.send_to_layer is _send_to_layer:  # unless the test has it lose something
        await taken_in(last)
    return result


async def taken_in(last: int) -> None:
    """Wait until this process, if it follows the stream, has taken in everything up to a position."""
    async with asyncio.timeout(10):
        while hub._stream is not None and hub._stream.position is not None and hub._stream.position < last:
            await asyncio.sleep(0.002)


async def published() -> None:
    """Publish what was changed so far: fixtures, say."""
    await do(lambda: None)


async def change(instance: Any, **fields: Any) -> Any:
    """Set fields, save and publish."""

    def save() -> Any:
        for name, value in fields.items():
            setattr(instance, name, value)
        instance.save()
        return instance

    return await do(save)


async def told(client: Client) -> list[tuple[str, Payload]]:
    """Everything the client was told of what happened up to now, and has not read yet."""
    [events] = await all_told([client])
    return events


async def all_told(clients: Iterable[Client]) -> list[list[tuple[str, Payload]]]:
    """The same for several of them.

    Silence is shown by what does arrive: a marker that everybody gets, and the stream keeps its order.
    """
    marker = await do(Article.objects.create, title="The marker", body="-", status=ArticleStatus.PUBLISHED)
    return [await _told_before(marker, client) for client in clients]


async def _told_before(marker: Article, client: Client) -> list[tuple[str, Payload]]:
    found = []
    while True:
        name, payload = await client.next_event()
        if name == "notification" and payload["related_id"] == str(marker.pk):
            return found
        data = payload.get("data")
        if not (isinstance(data, dict) and data.get("title") == marker.title):
            found.append((name, payload))


def summary(events: list[tuple[str, Payload]]) -> list[tuple[str, str]]:
    """[(event, action)], of a notification its type."""
    return [
        (name, payload["notification"]["type"] if name == "notification" else payload.get("action", ""))
        for name, payload in events
    ]
