"""Changes made and published from inside an event loop, and what a client was told of them."""

from collections.abc import Callable
from typing import Any

from channels.db import database_sync_to_async

from knowledge.models import Article, ArticleStatus
from notifications import publisher

from .clients import Client, Payload


async def do(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run something that touches the database, and publish what it changed."""

    def work_and_publish() -> Any:
        result = work(*arguments, **named)
        publisher.publish_once()
        return result

    return await database_sync_to_async(work_and_publish)()


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
    """Everything the client was told of what happened up to now, and has not read yet.

    Silence is shown by what does arrive: a marker that everybody gets, and the stream keeps its order.
    """
    marker = await do(Article.objects.create, title="The marker", body="-", status=ArticleStatus.PUBLISHED)
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
