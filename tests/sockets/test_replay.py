"""Coming back with a cursor: nothing missed, nothing twice, nothing that is not for one's eyes any more."""

import asyncio
import time

import pytest
from channels.db import database_sync_to_async
from engineio.async_socket import AsyncSocket

from comments.models import Comment
from notifications import publisher
from notifications.models import Event, EventStream
from notifications.sockets import limits, replay
from notifications.sockets.connection import Connection
from notifications.sockets.hub import hub

from .changes import change, do, summary, told
from .clients import WAIT, token_of


def say(ticket, *contents, **fields):
    return [Comment(ticket=ticket, content=content, **fields).post() for content in contents]


def said(events):
    return [payload["data"].get("content") for name, payload in events if name == "comment.update"]


async def cursor_of(client):
    """The present cursor, by joining a room of no interest."""
    return (await client.ask("join", room="attachments"))["cursor"]


async def test_a_join_tells_from_where_on_it_shows_everything(connect, ticket, agent):
    client = await connect(agent)
    before = (await client.ask("join", room="comments"))["cursor"]
    await do(say, ticket, "One", "Two")
    cursors = [payload["cursor"] for name, payload in await told(client) if name == "comment.update"]
    assert cursors == [before + 1, before + 2]
    assert (await client.ask("join", room="tickets"))["cursor"] == before + 3  # the marker is one more


@pytest.mark.parametrize("page", [1, 2, 100])
async def test_what_was_missed_comes_in_order_and_once_then_what_happens(connect, ticket, agent, monkeypatch, page):
    monkeypatch.setattr(limits, "REPLAY_PAGE", page)
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, *"abcde")
    answer = await client.ask("join", room="comments", after=cursor)
    assert cursor <= answer["cursor"] <= cursor + 5  # as far as the process had come; the rest is told as it comes
    await do(say, ticket, "f")
    assert said(await told(client)) == list("abcdef")


async def test_what_happens_during_a_replay_comes_after_it(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "REPLAY_PAGE", 2)
    client = await connect(agent, "attachments")
    cursor = await cursor_of(client)
    await do(say, ticket, *"abcd")
    read, meanwhile = replay.missed, iter("efghijkl")

    def read_while_more_happens(*arguments):
        say(ticket, next(meanwhile))
        publisher.publish_once()
        return read(*arguments)

    monkeypatch.setattr(replay, "missed", read_while_more_happens)
    await client.ask("join", room="comments", after=cursor)
    events = [it for it in await told(client) if it[0] == "comment.update"]
    assert said(events)[:4] == list("abcd")
    assert said(events)[4:] == list("efghijkl")[: len(events) - 4]
    assert len(events) > 5
    assert [payload["cursor"] for _, payload in events] == list(range(cursor + 1, cursor + 1 + len(events)))


async def test_another_role_is_told_in_its_place_among_what_happens_during_a_replay(
    connect, ticket, agent, monkeypatch
):
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, "missed")
    missed, more = replay.missed, iter([True])

    def read_while_more_happens(*arguments):
        if next(more, False):
            say(ticket, "meanwhile")
            agent.role = "admin"
            agent.save()
            publisher.publish_once()
            last = replay.last_position()
            for _ in range(1_000):
                if hub._stream.position == last:
                    return missed(*arguments)
                time.sleep(0.01)
            raise AssertionError("the hub did not take it in")
        return missed(*arguments)

    monkeypatch.setattr(replay, "missed", read_while_more_happens)
    await client.ask("join", room="comments", after=cursor)
    events = await told(client)
    assert [name for name, _ in events] == ["comment.update", "comment.update", "resync_required", "user.update"]
    assert said(events) == ["missed", "meanwhile"]
    assert [payload["cursor"] for _, payload in events] == [cursor + 1, cursor + 2, cursor + 3, cursor + 3]


async def test_what_is_on_its_way_still_comes_in_its_place(connect, ticket, agent, monkeypatch):
    """The log is ahead of this process: no room is shown further than the others, or its cursors would jump ahead."""
    monkeypatch.setattr(limits, "LOOK_EVERY", 3600)
    await change(ticket, assignee=agent)
    client = await connect(agent, "tickets")
    cursor = await cursor_of(client)
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, "On its way", author=ticket.requester)
        await change(agent, role="admin")
        last = await database_sync_to_async(replay.last_position)()
    assert (await client.ask("join", room="comments", after=cursor))["cursor"] == cursor == last - 2
    events = await told(client)
    assert [name for name, _ in events] == ["comment.update", "notification", "resync_required", "user.update"]
    assert [payload["cursor"] for _, payload in events] == [cursor + 1, cursor + 1, cursor + 2, cursor + 2]


async def test_one_who_comes_from_a_process_that_is_ahead_of_this_one_is_told_nothing_again(
    connect, ticket, agent, monkeypatch
):
    monkeypatch.setattr(limits, "LOOK_EVERY", 3600)
    await connect(agent)
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "send_to_layer", lambda messages: None)
        await do(say, ticket, "Told there", "Not told")
        cursor = await database_sync_to_async(replay.last_position)() - 1
        client = await connect(agent, after=cursor)
    assert (await client.ask("join", room="comments"))["cursor"] == cursor
    assert (await client.ask("join", room=f"ticket:{ticket.pk}"))["cursor"] == cursor
    events = await told(client)
    assert said(events) == ["Not told"]
    assert "resync_required" not in [name for name, _ in events]
    await expects_resync(client, "unknown_cursor", after=2**40)


async def test_rooms_that_overlap_repeat_nothing(connect, ticket, agent):
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, "a", "b")
    await client.ask("join", room="comments", after=cursor + 1)
    await do(say, ticket, "c")
    await client.ask("join", room=f"ticket:{ticket.pk}", after=cursor)
    await client.ask("join", room="comments", after=cursor)
    await do(say, ticket, "d")
    events = [it for it in await told(client) if it[0] == "comment.update"]
    assert sorted(said(events)) == list("abcd")
    assert said(events)[0] == "b"


async def test_a_connection_that_comes_back_gets_its_notifications_and_rooms(connect, ticket, customer, agent):
    first = await connect(customer, "comments")
    await do(say, ticket, "Heard", author=agent)
    cursor = (await first.event("notification"))["cursor"]
    await first.close()
    await do(say, ticket, "Missed 1", "Missed 2", author=agent)

    again = await connect(customer, after=cursor)
    await again.ask("join", room="comments")
    await do(say, ticket, "Live", author=agent)
    events = await told(again)
    assert summary(events) == [
        ("notification", "comment_on_ticket"),
        ("notification", "comment_on_ticket"),
        ("comment.update", "created"),
        ("comment.update", "created"),
        ("comment.update", "created"),
        ("notification", "comment_on_ticket"),
    ]
    assert said(events) == ["Missed 1", "Missed 2", "Live"]
    assert [payload["data"]["content"] for name, payload in events if name == "notification"] == said(events)


async def test_a_room_is_resumed_once_and_only_by_who_has_just_come_back(connect, ticket, agent, monkeypatch):
    """Who opens one page after the other has fetched each: there is nothing to replay, least of all once more."""
    first = await connect(agent)
    cursor = await cursor_of(first)
    await first.close()
    await do(say, ticket, "a")
    again = await connect(agent, "comments", after=cursor)
    assert said(await told(again)) == ["a"]
    await again.ask("leave", room="comments")
    await again.ask("join", room="comments")
    assert said(await told(again)) == []
    await again.close()

    monkeypatch.setattr(limits, "RESUME_SECONDS", 0)
    later = await connect(agent, "comments", after=cursor)
    assert said(await told(later)) == []


async def test_articles_and_people_are_among_ones_own(connect, admin, make_user, article):
    first = await connect(admin)
    cursor = await cursor_of(first)
    await first.close()
    await change(article, title="How to print well")
    user = await do(make_user, "newcomer")
    again = await connect(admin, after=cursor)
    events = await told(again)
    assert summary(events) == [("kb.update", "updated"), ("user.update", "created"), ("notification", "user_created")]
    assert events[1][1]["data"]["id"] == str(user.pk)
    assert (await again.ask("join", room="kb", after=cursor))["ok"] is True
    assert await told(again) == []


async def test_what_is_not_for_ones_eyes_any_more_is_not_replayed(
    connect, ticket, customer, other_customer, agent, comment
):
    client = await connect(customer)
    cursor = await cursor_of(client)
    await change(comment, content="Seen in time")
    await do(say, ticket, "Said before the ticket moved", author=agent)
    await change(comment, is_internal=True)
    await change(ticket, requester=other_customer)
    await do(say, ticket, "Said after it", author=agent)
    await client.close()

    again = await connect(customer, after=cursor)
    for room in ("tickets", "comments"):
        await again.ask("join", room=room)
    events = await told(again)
    assert summary(events) == [("ticket.update", "removed"), *[("comment.update", "removed")] * 2]
    assert "Said" not in str(events)
    assert "Seen" not in str(events)


async def test_what_was_deleted_before_it_went_out_of_sight_is_taken_away(
    connect, ticket, customer, other_customer, comment
):
    """When its ticket moved, there was nothing left to take along."""
    client = await connect(customer)
    cursor = await cursor_of(client)
    await do(comment.delete)
    await change(ticket, requester=other_customer)
    await client.ask("join", room="comments", after=cursor)
    events = [(name, payload) for name, payload in await told(client) if name == "comment.update"]
    assert [(payload["action"], payload["data"]) for _, payload in events] == [("removed", {"id": str(comment.pk)})]


async def test_a_deletion_is_replayed_to_who_could_see_the_thing(connect, ticket, customer, other_customer, comment):
    client, stranger = await connect(customer), await connect(other_customer)
    cursor = await cursor_of(client)
    await do(comment.delete)
    for it in (client, stranger):
        await it.ask("join", room="comments", after=cursor)
    [payload] = [payload for name, payload in await told(client) if name == "comment.update"]
    assert payload["action"] == "deleted"
    assert payload["data"]["deleted_at"]
    assert await told(stranger) == []


async def expects_resync(client, reason, **arguments):
    answer = await client.ask("join", room="comments", **arguments)
    assert answer["ok"] is True
    resync = await client.event("resync_required")
    assert (resync["reason"], resync["room"], resync["cursor"]) == (reason, "comments", answer["cursor"])
    assert resync["message"]


def prune(until):
    """As retention does it: the log is not whole up to `until`."""
    Event.objects.filter(position__lte=until).delete()
    EventStream.objects.update(pruned_position=until)


async def test_a_cursor_that_is_too_old_asks_for_a_fresh_fetch_and_goes_on(connect, ticket, agent):
    await do(say, ticket, "a", "b", "c")
    await do(prune, 3)
    client = await connect(agent)
    await expects_resync(client, "cursor_too_old", after=1)
    await do(say, ticket, "d")
    assert said(await told(client)) == ["d"]


async def test_the_oldest_cursor_that_is_whole_is_replayed(connect, ticket, agent):
    await do(say, ticket, "a", "b", "c")
    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    await do(prune, last - 2)
    client = await connect(agent)
    await client.ask("join", room="comments", after=last - 2)
    assert said(await told(client)) == ["b", "c"]


async def test_a_log_that_was_emptied_is_too_old_for_every_cursor_but_the_last(connect, ticket, agent):
    await do(say, ticket, "a", "b")
    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    await do(prune, last)
    client = await connect(agent)
    assert (await client.ask("join", room="comments", after=last))["cursor"] == last
    assert await told(client) == []
    await client.ask("leave", room="comments")
    await expects_resync(client, "cursor_too_old", after=last - 1)


async def test_a_cursor_of_the_future_is_of_another_time_line(connect, agent):
    await expects_resync(await connect(agent), "unknown_cursor", after=1_000_000)


async def test_too_much_missed_asks_for_a_fresh_fetch(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "REPLAY_EVENTS", 3)
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, *"abcd")
    await expects_resync(client, "missed_too_much", after=cursor)
    await client.ask("join", room=f"ticket:{ticket.pk}", after=cursor + 1)
    assert said(await told(client)) == list("bcd")


async def test_coming_back_too_late_is_told_once(connect, ticket, customer, monkeypatch):
    monkeypatch.setattr(limits, "REPLAY_EVENTS", 0)
    client = await connect(customer)
    cursor = await cursor_of(client)
    await do(say, ticket, "a")
    await client.close()
    again = await connect(customer, "tickets", "comments", after=cursor)
    [(name, payload)] = await told(again)
    assert (name, payload["reason"]) == ("resync_required", "missed_too_much")


@pytest.mark.parametrize("role", ["admin", "customer"])
async def test_a_role_that_changed_meanwhile_asks_for_a_fresh_fetch(connect, ticket, agent, role):
    """The log tells nobody of the tickets that they see, or do not see, since then."""
    client = await connect(agent)
    cursor = await cursor_of(client)
    await client.close()
    await change(agent, name="Agent in Chief")
    again = await connect(agent, "tickets", "comments", after=cursor)
    assert summary(await told(again)) == []
    await again.close()
    await change(agent, role=role)
    again = await connect(agent, "tickets", "comments", after=cursor)
    [(name, payload)] = await told(again)
    assert (name, payload["reason"]) == ("resync_required", "role_changed")


async def test_when_everybody_comes_back_at_once_few_are_replayed_at_a_time(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "REPLAYS_AT_ONCE", 2)
    monkeypatch.setattr(limits, "REPLAY_PAGE", 2)
    first = await connect(agent)
    cursor = await cursor_of(first)
    await first.close()
    await hub.stop()
    await do(say, ticket, *"abcdef")
    replaying, most, cover = set(), [], hub._cover_now

    async def counted(connection, room, after):
        if after is not None:
            replaying.add(connection)
            most.append(len(replaying))
        try:
            return await cover(connection, room, after)
        finally:
            replaying.discard(connection)

    monkeypatch.setattr(hub, "_cover_now", counted)
    clients = await asyncio.gather(*(connect(agent, "comments", after=cursor) for _ in range(6)))
    for client in clients:
        assert said(await told(client)) == list("abcdef")
    assert max(most) == 2


async def test_a_replay_that_nobody_reads_lets_others_go_on(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "REPLAYS_AT_ONCE", 1)
    monkeypatch.setattr(limits, "REPLAY_TURN", 0.05)
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, *"abc")
    reading, may_go_on = Connection.outbox_empty, asyncio.Event()

    async def first_one_does_not_read(connection):
        if connection.person.id == agent.pk:
            await may_go_on.wait()
        await reading(connection)

    monkeypatch.setattr(Connection, "outbox_empty", first_one_does_not_read)
    stuck = asyncio.create_task(client.ask("join", room="comments", after=cursor))
    other = await connect(ticket.requester)
    assert (await other.ask("join", room="comments", after=cursor))["ok"] is True
    assert said(await told(other)) == list("abc")
    assert not stuck.done()
    may_go_on.set()
    assert (await stuck)["ok"] is True
    assert said(await told(client)) == list("abc")


async def test_while_a_client_is_replayed_its_other_operations_are_read(stock, ticket, agent, monkeypatch):
    """The heartbeat comes the same way: who waits long for a replay must not be taken for gone."""
    client = await stock({"token": await database_sync_to_async(token_of)(agent)}).open()
    cursor = await cursor_of(client)
    await do(say, ticket, "a")
    reading, may_go_on = Connection.outbox_empty, asyncio.Event()

    async def wait(connection):
        await may_go_on.wait()
        await reading(connection)

    monkeypatch.setattr(Connection, "outbox_empty", wait)
    seen = []
    receive = AsyncSocket.receive

    async def noted(session, packet):
        seen.append(packet.data)
        await receive(session, packet)

    monkeypatch.setattr(AsyncSocket, "receive", noted)
    joining = asyncio.create_task(client.ask("join", room="comments", after=cursor))
    leaving = asyncio.create_task(client.ask("leave", room="comments"))
    async with asyncio.timeout(WAIT):
        while not any("leave" in str(data) for data in seen):
            await asyncio.sleep(0.01)
    assert not joining.done()
    may_go_on.set()
    assert [(await answer)["ok"] for answer in (joining, leaving)] == [True, True]
    # In their order: it has left.
    await do(say, ticket, "b")
    assert said(await told(client)) == ["a"]


async def test_a_room_that_waited_long_for_its_replay_is_replayed(connect, ticket, agent, monkeypatch):
    first = await connect(agent)
    cursor = await cursor_of(first)
    await first.close()
    await do(say, ticket, "a")
    monkeypatch.setattr(limits, "RESUME_SECONDS", 1)
    cover = hub._cover_now

    async def slow(connection, room, after):
        await asyncio.sleep(limits.RESUME_SECONDS * 1.1)
        return await cover(connection, room, after)

    monkeypatch.setattr(hub, "_cover_now", slow)
    again = await connect(agent, "tickets", "comments", after=cursor)
    assert said(await told(again)) == ["a"]


async def test_a_replay_that_failed_is_made_the_next_time(connect, ticket, agent, monkeypatch, caplog):
    first = await connect(agent)
    cursor = await cursor_of(first)
    await first.close()
    await do(say, ticket, "a")
    again = await connect(agent, after=cursor)
    await told(again)
    with monkeypatch.context() as patch:
        patch.setattr(replay, "missed", lambda *arguments: 1 / 0)
        answer = await again.ask("join", room="comments")
        assert answer["error"]["code"] == "internal"
    assert (await again.ask("join", room="comments"))["ok"] is True
    assert said(await told(again)) == ["a"]


async def test_what_everybody_did_is_not_looked_through_without_end(connect, ticket, agent, monkeypatch):
    monkeypatch.setattr(limits, "REPLAY_SPAN", 3)
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, *"abcd", is_internal=True)
    await expects_resync(client, "missed_too_much", after=cursor)


async def test_what_is_pruned_while_it_is_replayed_is_told(connect, ticket, agent, monkeypatch):
    client = await connect(agent)
    cursor = await cursor_of(client)
    await do(say, ticket, "a")
    missed = replay.missed

    def prune_and_read(user_id, after, until):
        EventStream.objects.update(pruned_position=until)
        return missed(user_id, after, until)

    monkeypatch.setattr(replay, "missed", prune_and_read)
    await client.ask("join", room="comments", after=cursor)
    events = await told(client)
    assert [payload["reason"] for name, payload in events if name == "resync_required"] == ["cursor_too_old"]


async def test_the_time_in_which_rooms_are_resumed_ends(connect, ticket, agent, monkeypatch):
    """Whoever opens one ticket after the other does not come back all day long."""
    first = await connect(agent)
    cursor = await cursor_of(first)
    await first.close()
    await do(say, ticket, "a")
    monkeypatch.setattr(limits, "RESUME_SECONDS", 1)
    again = await connect(agent, after=cursor)
    for room in ("tickets", "attachments", "kb", "comments"):
        await asyncio.sleep(0.4)
        await again.ask("join", room=room)
    assert said(await told(again)) == []
