"""Coming back with a cursor: nothing missed, nothing twice, nothing that is not for one's eyes any more."""

import pytest
from channels.db import database_sync_to_async

from comments.models import Comment
from notifications import publisher
from notifications.models import Event, EventStream
from notifications.sockets import limits, replay

from .changes import change, do, summary, told


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
    assert answer["cursor"] == cursor + 5
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
    assert summary(events) == [("ticket.update", "removed"), ("comment.update", "removed")]
    assert "Said" not in str(events)
    assert "Seen" not in str(events)


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


async def test_a_cursor_that_is_too_old_asks_for_a_fresh_fetch_and_goes_on(connect, ticket, agent):
    await do(say, ticket, "a", "b", "c")
    await database_sync_to_async(Event.objects.filter(position__lt=4).delete)()
    client = await connect(agent)
    await expects_resync(client, "cursor_too_old", after=1)
    await do(say, ticket, "d")
    assert said(await told(client)) == ["d"]


async def test_the_oldest_cursor_that_is_whole_is_replayed(connect, ticket, agent):
    await do(say, ticket, "a", "b", "c")
    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    await database_sync_to_async(Event.objects.filter(position__lt=last - 1).delete)()
    client = await connect(agent)
    await client.ask("join", room="comments", after=last - 2)
    assert said(await told(client)) == ["b", "c"]


async def test_a_log_that_was_emptied_is_too_old_for_every_cursor_but_the_last(connect, ticket, agent):
    await do(say, ticket, "a", "b")
    last = (await database_sync_to_async(EventStream.objects.get)(pk=1)).last_position
    await database_sync_to_async(Event.objects.all().delete)()
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
