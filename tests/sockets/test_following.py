"""Whatever the channel layer drops, forgets, repeats or brings in the wrong order: everybody is shown every event, once
and in order.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings as django_settings
from django.db import OperationalError, transaction

from comments.models import Comment
from knowledge.models import Article, ArticleStatus
from notifications import publisher
from notifications.models import Event, EventStream
from notifications.sockets import hub as hub_module
from notifications.sockets import limits, replay
from notifications.sockets.events import StreamEvent

from .changes import change, do, summary, told


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch) -> None:
    monkeypatch.setattr(limits, "LOOK_EVERY", 0.1)


def say(ticket, *contents, **fields):
    return [Comment(ticket=ticket, content=content, **fields).post() for content in contents]


def said(events):
    return [payload["data"]["content"] for name, payload in events if name == "comment.update"]


async def heard(client, *contents) -> None:
    """The next comments that the client is told of are these; it may take a look or two, and no other event."""
    for content in contents:
        assert (await client.event("comment.update"))["data"]["content"] == content


@pytest.fixture
def layer(monkeypatch) -> Callable[..., Any]:
    """Something between the publisher and the hubs: `layer(filter)` sends what `filter` makes of the messages."""

    def through(filter_: Callable[[list[Any]], list[Any]]) -> None:
        send = publisher.send_to_layer
        monkeypatch.setattr(publisher, "send_to_layer", lambda messages: send(filter_(messages)))

    return through


async def test_what_was_lost_before_an_event_is_shown_before_it(connect, ticket, agent, layer, monkeypatch):
    monkeypatch.setattr(limits, "LOOK_EVERY", 3600)
    client = await connect(agent, "comments")
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, *"abc")
    await do(say, ticket, "d")
    assert said(await told(client)) == list("abcd")


@pytest.mark.parametrize(
    "filter_",
    [
        pytest.param(lambda messages: messages[::2], id="every second one is lost"),
        pytest.param(lambda messages: messages[:-1], id="the last one is lost"),
        pytest.param(lambda messages: [], id="everything is lost"),
        pytest.param(lambda messages: messages[::-1], id="backwards"),
        pytest.param(lambda messages: messages + messages, id="everything twice"),
        pytest.param(lambda messages: messages[2:] + messages, id="a straggler overtakes its successor"),
        pytest.param(lambda messages: [it for it in messages for _ in range(2)][1:], id="twice but the first"),
    ],
)
async def test_every_event_is_shown_once_and_in_order(connect, ticket, agent, customer, layer, filter_):
    layer(filter_)
    staff, requester = await connect(agent, "comments"), await connect(customer, "comments")
    await do(say, ticket, *"abcde", author=agent)
    await do(say, ticket, *"fg", author=agent)
    for client in (staff, requester):
        assert said(await told(client)) == list("abcdefg")


async def test_a_layer_that_forgot_us_is_told_again(in_process_layer, connect, ticket, agent, caplog):
    client = await connect(agent, "comments", f"ticket:{ticket.pk}")
    other = await connect(ticket.requester, f"ticket:{ticket.pk}")
    in_process_layer.groups.clear()
    await do(say, ticket, "Lost")
    await heard(client, "Lost")
    assert "The channel layer did not bring events" in caplog.text
    await do(say, ticket, "Brought")
    await heard(client, "Brought")
    assert caplog.text.count("did not bring") == 1
    # Not only the stream: what leaves no trace comes again too.
    assert (await other.ask("typing", ticket_id=str(ticket.pk)))["ok"] is True
    await client.event("typing")


async def test_what_waits_too_long_in_the_layer_is_read_from_the_log(in_process_layer, connect, ticket, agent):
    """The in-process layer drops what is older than a minute, and takes its receiver out of every group."""
    client = await connect(agent, "comments")
    in_process_layer.expiry = -1
    await do(say, ticket, "a", "b")
    await heard(client, "a", "b")


async def test_a_layer_that_is_full_loses_nothing(in_process_layer, connect, ticket, agent):
    in_process_layer.capacity = 2
    client = await connect(agent, "comments")
    await do(say, ticket, *map(str, range(20)))
    assert said(await told(client)) == list(map(str, range(20)))


async def test_an_event_of_the_past_is_told_by_the_rights_of_the_present(
    connect, ticket, customer, other_customer, agent, layer, monkeypatch
):
    """What the layer did not bring is told late: as a replay would."""
    client = await connect(customer, "comments", "tickets")
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        [comment, _] = await do(say, ticket, "Regretted", "Meant", author=agent)
        await change(comment, is_internal=True)
    events = await told(client)
    assert "Regretted" not in str(events)
    assert summary(events) == [
        ("comment.update", "created"),
        ("notification", "comment_on_ticket"),
        ("comment.update", "removed"),
    ]


async def test_a_lost_revocation_counts_before_what_comes_after_it(connect, ticket, agent, monkeypatch):
    client = await connect(agent, "comments")
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await change(agent, role="customer")
    await do(say, ticket, "No longer yours")
    events = await told(client)
    assert [name for name, _ in events] == ["resync_required"]


async def test_a_revocation_is_noticed_although_nothing_comes(connect, agent, monkeypatch):
    client = await connect(agent)
    monkeypatch.setattr(publisher, "send_to_layer", lambda messages: None)
    await do(agent.deactivate)
    await client.closed()


async def test_a_database_that_is_gone_for_a_moment_is_asked_again(connect, ticket, agent, monkeypatch, caplog):
    client = await connect(agent, "comments")

    def gone(*arguments: Any) -> None:
        raise OperationalError("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(replay, "log", gone)
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, "a")
        await until(lambda: "cannot be followed" in caplog.text)
        await do(say, ticket, "b")
    await heard(client, "a", "b")
    assert caplog.text.count("cannot be followed") == 1
    assert [record for record in caplog.records if record.exc_info] == []


async def test_recipients_that_cannot_be_read_are_asked_for_again(connect, customer, agent, monkeypatch):
    monkeypatch.setattr("notifications.stream.NOTIFICATIONS_IN_MESSAGE", 0)
    client, asked = await connect(customer), []
    find = hub_module._notifications_of

    def gone_once(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 1:
            raise OperationalError("the database is gone")
        return find(*arguments)

    monkeypatch.setattr(hub_module, "_notifications_of", gone_once)
    article = await do(Article.objects.create, title="News", body="-", status=ArticleStatus.PUBLISHED)
    assert (await client.event("kb.update"))["action"] == "created"
    assert (await client.event("notification"))["related_id"] == str(article.pk)
    assert len(asked) > 1


async def test_an_event_that_cannot_be_shown_stops_nobody(connect, ticket, agent, monkeypatch, caplog):
    client = await connect(agent, "comments")
    update_for = StreamEvent.update_for

    def broken(self: StreamEvent, *arguments: Any) -> Any:
        if self.entity == "comment" and '"Broken"' in self._payloads[0]:
            raise ValueError("a mistake of ours")
        return update_for(self, *arguments)

    monkeypatch.setattr(StreamEvent, "update_for", broken)
    [_, broken_comment, _] = await do(say, ticket, "a", "Broken", "b")
    events = await told(client)
    assert summary(events) == [
        ("comment.update", "created"),
        ("resync_required", ""),
        ("comment.update", "created"),
    ]
    cursor = (await database_sync_to_async(Event.objects.get)(entity_id=broken_comment.pk)).position
    assert (events[1][1]["reason"], events[1][1]["cursor"]) == ("gap", cursor)
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


async def test_what_the_log_has_lost_asks_everyone_to_fetch_anew(connect, ticket, agent, customer, monkeypatch):
    clients = [await connect(agent, "comments"), await connect(customer)]
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)

        def lose() -> None:
            with transaction.atomic():  # so that nobody looks in between
                say(ticket, "Pruned")
                publisher.number_events()
                Event.objects.filter(entity="comment").delete()
            say(ticket, "Kept")

        await do(lose)
    gap = await clients[0].event("resync_required")
    assert gap["reason"] == "gap"
    await heard(clients[0], "Kept")
    assert (await clients[1].event("resync_required"))["cursor"] == gap["cursor"]


async def test_too_much_kept_from_us_asks_everyone_to_fetch_anew(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "CATCH_UP_EVENTS", 3)
    client = await connect(agent, "comments")
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, *"abcd")
    gap = await client.event("resync_required")
    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    assert (gap["reason"], gap["cursor"]) == ("gap", last)
    await do(say, ticket, "e")
    assert said(await told(client)) == ["e"]


async def test_a_stream_that_went_back_is_followed_from_there(connect, ticket, agent):
    """A backup was restored: positions come again, for other events."""
    client = await connect(agent, "comments")
    await do(say, ticket, "a", "b")
    await heard(client, "a", "b")

    def restore() -> None:
        Event.objects.filter(entity="comment").delete()
        last = Event.objects.published().values_list("position", flat=True).last()
        EventStream.objects.update(last_position=last, sent_position=last)

    await database_sync_to_async(restore)()
    assert (await client.event("resync_required"))["reason"] == "gap"
    await do(say, ticket, "c")
    assert said(await told(client)) == ["c"]


async def test_who_knows_more_than_there_is_of_a_stream_that_went_back_begins_anew(connect, ticket, agent):
    """It would be told nothing until the stream is where it was."""
    await do(say, ticket, "a", "b")
    client = await connect(agent, "comments")

    def restore() -> None:
        Event.objects.filter(entity="comment").delete()
        last = Event.objects.published().values_list("position", flat=True).last()
        EventStream.objects.update(last_position=last, sent_position=last)

    await database_sync_to_async(restore)()
    await client.closed()
    again = await connect(agent, "comments")
    await do(say, ticket, "c")
    assert said(await told(again)) == ["c"]


async def test_a_message_of_another_time_line_is_not_believed(connect, ticket, agent):
    client = await connect(agent, "comments")
    await get_channel_layer().group_send("stream", {"type": "hub.event", "position": 1_000_000})
    await do(say, ticket, "a")
    assert said(await told(client)) == ["a"]


async def test_catching_up_waits_for_those_who_read(connect, ticket, agent, monkeypatch):
    """More than an outbox holds, at once: nobody who reads is closed for it."""
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 20)
    monkeypatch.setattr(limits, "REPLAY_PAGE", 10)
    client = await connect(agent, "comments")
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, *map(str, range(60)))
    assert said(await told(client)) == list(map(str, range(60)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# --- Redis -----------------------------------------------------------------------------------------------------------
needs_redis = pytest.mark.skipif(
    "redis" not in django_settings.CHANNEL_LAYERS["default"]["BACKEND"], reason="needs Redis (REDIS_URL)"
)


@pytest.fixture
async def server_side(settings) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Cuts every connection of this test's layer on the side of the Redis server; returns how many there were."""
    client = redis.asyncio.from_url(django_settings.REDIS_URL)

    async def cut() -> int:
        name = settings.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"]
        found = [it["id"] for it in await client.client_list() if it["name"] == name]
        for id_ in found:
            await client.client_kill_filter(_id=id_)
        return len(found)

    yield cut
    await client.aclose()


@needs_redis
async def test_cut_connections_to_redis_lose_nothing(connect, ticket, agent, customer, server_side):
    clients = [await connect(agent, "comments"), await connect(customer, "comments")]
    for round_ in range(3):
        assert await server_side() >= 1
        # The hub has no connection at this moment: what is sent now reaches nobody.
        await do_although_the_layer_fails(say, ticket, f"{round_} a", f"{round_} b", author=agent)
        for client in clients:
            await heard(client, f"{round_} a", f"{round_} b")


async def do_although_the_layer_fails(work: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    def work_and_publish() -> None:
        work(*arguments, **named)
        for _ in range(3):  # as the publisher's thread does
            try:
                publisher.publish_once()
                return
            except (OSError, redis.exceptions.RedisError):
                continue
        raise AssertionError("the layer did not come back")

    await database_sync_to_async(work_and_publish)()


@needs_redis
async def test_a_flushed_redis_loses_nothing(connect, ticket, agent):
    client = await connect(agent, "comments")
    async with redis.asyncio.from_url(django_settings.REDIS_URL) as server:
        await server.flushdb()
    await do(say, ticket, "a")
    await heard(client, "a")


@needs_redis
async def test_installations_that_share_a_server_do_not_hear_each_other(settings):
    from helpdesk.settings.backends import channel_layer

    one, other = (channel_layer(f"redis://127.0.0.1:6379/{number}")["CONFIG"]["prefix"] for number in (1, 2))
    assert one != other
