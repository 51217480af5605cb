"""The hub: each event once, groups by the people who are there, and nothing lost in silence."""

import asyncio
import threading
from typing import Any
from unittest.mock import AsyncMock

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from comments.models import Comment
from knowledge.models import Article, ArticleStatus
from notifications import publisher, stream
from notifications.expansion import expand_next_batch
from notifications.models import Event, EventStream, Notification
from notifications.payloads import encode
from notifications.sockets import hub as hub_module
from notifications.sockets import limits, replay
from notifications.sockets.events import StreamEvent
from notifications.sockets.hub import hub

from . import changes
from .changes import change, do, published, summary, told
from .clients import Closed, PlainClient, token_of


def groups() -> set[str]:
    """The groups of the (in-process) layer that have members."""
    return {group for group, channels in get_channel_layer().groups.items() if channels}


async def settled(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_is_in_the_stream_and_in_the_groups_of_those_who_are_there(
    in_process_layer, plain, customer, agent, admin
):
    assert hub.loop is None
    one = await plain(token_of(customer)).open()
    two = await plain(token_of(customer)).open()
    assert hub.loop is asyncio.get_running_loop()
    assert groups() == {"stream", f"user.{customer.pk}"}
    staff = await plain(token_of(agent)).open()
    boss = await plain(token_of(admin)).open()
    everyone = {f"user.{user.pk}" for user in (customer, agent, admin)}
    assert groups() == {"stream", "staff", *everyone}
    assert all(len(channels) == 1 for channels in in_process_layer.groups.values())

    await boss.close()
    await settled(lambda: groups() == {"stream", "staff", f"user.{customer.pk}", f"user.{agent.pk}"})
    await one.close()
    await staff.close()
    await settled(lambda: groups() == {"stream", f"user.{customer.pk}"})
    await two.close()
    await settled(lambda: groups() == {"stream"})


async def test_a_changed_role_changes_the_groups(in_process_layer, plain, agent):
    client = await plain(token_of(agent)).open()
    await change(agent, role="customer")
    await client.event("resync_required")
    await settled(lambda: groups() == {"stream", f"user.{agent.pk}"})
    await change(agent, role="admin")
    await client.event("resync_required")
    await settled(lambda: groups() == {"stream", "staff", f"user.{agent.pk}"})


async def test_memberships_are_renewed(in_process_layer, plain, customer, monkeypatch):
    monkeypatch.setattr(limits, "GROUP_RENEWAL", 0.01)
    await plain(token_of(customer)).open()
    in_process_layer.groups.clear()
    await settled(lambda: groups() == {"stream", f"user.{customer.pk}"})


async def test_an_event_that_is_sent_again_is_shown_once(connect, ticket, admin):
    """A publisher that takes over sends again what its predecessor may not have sent."""
    client = await connect(admin, "comments")
    await do(Comment(ticket=ticket, content="Once").post)

    def send_again() -> None:
        EventStream.objects.filter(pk=1).update(sent_position=0)
        publisher.publish_once()

    await database_sync_to_async(send_again)()
    assert summary(await told(client)) == [("comment.update", "created")]


async def test_events_keep_their_order_on_every_connection(connect, ticket, agent, admin):
    clients = [await connect(user, "comments", "tickets") for user in (ticket.requester, agent, admin)]

    def much() -> None:
        for number in range(20):
            Comment(ticket=ticket, content=str(number)).post()
            ticket.title = f"Title {number}"
            ticket.save()

    await do(much)
    for client in clients:
        events = [(name, payload) for name, payload in await told(client) if name != "notification"]
        assert len(events) == 40
        cursors = [payload["cursor"] for _, payload in events]
        assert cursors == sorted(set(cursors))


async def test_a_large_audience_is_told_by_each_hub(connect, customer, agent, settings, monkeypatch):
    monkeypatch.setattr(stream, "NOTIFICATIONS_IN_MESSAGE", 1)
    settings.AUDIENCE_IN_TRANSACTION = 1
    one, other = await connect(customer), await connect(agent)
    article = await do(Article.objects.create, title="News", body="-", status=ArticleStatus.PUBLISHED)
    await do(expand_next_batch)
    for client in (one, other):
        update = await client.event("kb.update")
        notification = await client.event("notification")
        assert notification["related_id"] == str(article.pk)
        assert notification["data"] == update["data"]
        assert notification["cursor"] > update["cursor"]
    ids = await database_sync_to_async(list)(Notification.objects.values_list("id", flat=True))
    assert len(ids) == 2


async def test_who_comes_in_while_a_hub_asks_whom_an_announcement_is_for_is_among_them(
    connect, customer, agent, settings, monkeypatch
):
    monkeypatch.setattr(stream, "NOTIFICATIONS_IN_MESSAGE", 1)
    settings.AUDIENCE_IN_TRANSACTION = 1
    one = await connect(customer)
    article = await do(Article.objects.create, title="News", body="-", status=ArticleStatus.PUBLISHED)
    asked, may_go_on, ask = asyncio.Event(), asyncio.Event(), hub._ask

    async def slow(question, *arguments):
        found = await ask(question, *arguments)
        if question is hub_module._notifications_of:
            asked.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(hub, "_ask", slow)
    telling = asyncio.create_task(do(expand_next_batch))
    await asked.wait()
    monkeypatch.setattr(changes, "taken_in", AsyncMock())  # which would wait for us
    other = await connect(agent)
    may_go_on.set()
    await telling
    for client in (one, other):
        assert (await client.event("notification"))["related_id"] == str(article.pk)


@pytest.mark.parametrize(
    "payload", [{"event": "notification.created", "notification": {"id": "n"}, "data": {"id": "d"}}, [1], 7]
)
async def test_a_received_webhook_is_passed_on_to_its_person(connect, customer, agent, payload):
    """Whatever was signed: fields of ours are not to be forged."""
    client, other = await connect(customer), await connect(agent)
    if isinstance(payload, dict):
        payload = {**payload, "cursor": -1, "type": "forged"}

    def receive() -> Event:
        return Event.objects.create(
            entity="webhook",
            action="received",
            entity_id=customer.pk,
            visibility="person",
            person_id=customer.pk,
            payload_staff=encode(payload),
            payload_customer=encode(payload),
        )

    event = await do(receive)
    await database_sync_to_async(event.refresh_from_db)()
    [(name, found)] = await told(client)
    assert (name, found["cursor"]) == ("webhook.received", event.position)
    assert found["data"] == (payload["data"] if isinstance(payload, dict) else payload)
    assert await told(other) == []


async def test_a_test_of_a_webhook_is_a_notification_only(connect, customer):
    client = await connect(customer)

    def test() -> None:
        event = Event.objects.create(
            entity="webhook",
            action="test",
            entity_id=customer.pk,
            visibility="person",
            person_id=customer.pk,
            payload_staff="{}",
            payload_customer="{}",
        )
        Notification.objects.create(
            event=event,
            recipient=customer,
            type="webhook_test",
            message="It works",
            related_type="webhook",
            related_id=customer.pk,
        )

    await do(test)
    assert summary(await told(client)) == [("notification", "webhook_test")]


# --- trouble ---------------------------------------------------------------------------------------------------------
async def test_rights_that_cannot_be_read_end_the_connection(plain, agent, ticket, monkeypatch, caplog):
    client = await plain(token_of(agent)).open()
    await client.ask("join", room="comments")

    def unreadable(*arguments: Any) -> None:
        raise OSError("the database is gone")

    def demote() -> None:
        agent.role = "customer"
        agent.save()
        Comment(ticket=ticket, content="Not for them").post()

    monkeypatch.setattr(replay, "standing", unreadable)
    await do(demote)
    with pytest.raises(Closed) as closed:
        await client.next_event()
    assert closed.value.code == 4503


async def test_a_layer_that_is_down_refuses_with_a_reason(in_process_layer, plain, customer, monkeypatch):
    async def down(*arguments: Any) -> None:
        raise ConnectionError("no Redis")

    monkeypatch.setattr(in_process_layer, "group_add", down)
    client = await plain(token_of(customer)).connect()
    error = await client.frame("error")
    assert error["error"]["code"] == "unavailable"
    assert (await client.closed()).code == 4503
    monkeypatch.undo()
    client = await plain(token_of(customer)).open()
    assert groups() == {"stream", f"user.{customer.pk}"}


async def test_a_group_that_could_not_be_joined_is_tried_again_for_the_next(
    in_process_layer, plain, customer, agent, monkeypatch
):
    join = in_process_layer.group_add

    async def not_the_stream(group: str, channel: str) -> None:
        if group == "stream":
            raise ConnectionError("no Redis")
        await join(group, channel)

    with monkeypatch.context() as patch:
        patch.setattr(in_process_layer, "group_add", not_the_stream)
        await (await plain(token_of(customer)).connect()).closed()
    await plain(token_of(agent)).open()
    await settled(lambda: groups() == {"stream", "staff", f"user.{agent.pk}"})


async def test_too_much_happening_during_a_join_ends_the_connection(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "OUTBOX_FRAMES", 3)
    client = await connect(agent)
    stand, take, arrived = replay.standing, hub._take, threading.Event()

    async def take_and_tell(event: StreamEvent) -> None:
        await take(event)
        if event.position == last + 4:  # the first that is too many
            arrived.set()

    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    monkeypatch.setattr(hub._stream, "_take", take_and_tell)

    def stand_while_much_happens(*arguments: Any) -> Any:
        for number in range(5):
            Comment(ticket=ticket, content=str(number)).post()
        publisher.publish_once()
        arrived.wait(10)
        return stand(*arguments)

    monkeypatch.setattr(replay, "standing", stand_while_much_happens)
    if isinstance(client, PlainClient):
        await client.send({"type": "join", "id": 1, "room": "comments"})
    else:
        await client.client.emit("join", {"room": "comments"})
    await client.closed()


async def test_stopping_tells_everyone_to_come_back(in_process_layer, plain, stock, customer):
    one = await plain(token_of(customer)).open()
    other = await stock({"token": token_of(customer)}).open()
    await hub.stop()
    assert (await one.closed()).code == 4503
    await other.closed()
    assert hub.loop is None
    await settled(lambda: groups() == set())
    again = await plain(token_of(customer)).open()
    assert (await again.ask("join", room="tickets"))["ok"] is True


async def test_what_happened_before_a_connection_is_not_told_to_it(connect, customer, agent, ticket):
    first = await connect(agent)
    await do(Comment(ticket=ticket, content="Before").post)
    second = await connect(agent, "comments")
    assert await told(second) == []
    assert await told(first) == []


async def test_without_a_connection_nothing_is_sent(ticket):
    await published()
    assert hub.loop is None
    assert (await database_sync_to_async(EventStream.objects.get)(pk=1)).sent_position > 0
