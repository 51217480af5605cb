"""Who is told what: every room, both doors, before and after a right is lost or won."""

import asyncio
import threading

import pytest
from django.db import connections

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from knowledge.models import Article, ArticleStatus
from notifications import publisher
from notifications.sockets import replay
from tickets.models import Attachment, Ticket

from .changes import change, do, summary, told
from .clients import Closed, PlainClient

EVERY_ROOM = ("tickets", "comments", "attachments", "kb")


def attachment(ticket: Ticket, **fields) -> Attachment:
    return Attachment(ticket=ticket, file="x/y.png", filename="y.png", content_type="image/png", size=4, **fields)


@pytest.mark.parametrize(
    ("role", "is_told"),
    [(Role.ADMIN, True), (Role.AGENT, True), (Role.CUSTOMER, False)],
)
async def test_what_concerns_a_ticket_is_told_to_staff_and_its_requester(connect, make_user, ticket, role, is_told):
    watching = await connect(await do(make_user, "watching", role), *EVERY_ROOM)
    requester = await connect(ticket.requester, *EVERY_ROOM)
    await change(ticket, priority="high")
    comment = await do(Comment(ticket=ticket, content="Hello").post)
    await change(comment, content="Hello!")
    file = attachment(ticket)
    await do(file.save)
    await change(file, filename="z.png")
    await do(file.delete)
    await do(comment.delete)
    await do(ticket.delete)

    expected = [
        ("ticket.update", "updated"),
        ("comment.update", "created"),
        ("comment.update", "updated"),
        ("attachment.update", "created"),
        ("attachment.update", "updated"),
        ("attachment.update", "deleted"),
        ("comment.update", "deleted"),
        ("ticket.update", "deleted"),
    ]
    assert summary(await told(watching)) == (expected if is_told else [])
    assert [it for it in summary(await told(requester)) if it[0] != "notification"] == expected


@pytest.mark.parametrize("role", Role.values)
async def test_internal_notes_and_files_are_for_staff(connect, make_user, ticket, agent, role):
    user = ticket.requester if role == Role.CUSTOMER else await do(make_user, "watching", role)
    client = await connect(user, *EVERY_ROOM, f"ticket:{ticket.pk}")
    note = await do(Comment(ticket=ticket, author=agent, content="An arsonist", is_internal=True).post)
    await change(note, content="A known arsonist")
    file = attachment(ticket, is_internal=True)
    await do(file.save)
    await do(file.delete)
    await do(note.delete)
    events = await told(client)
    assert len(events) == (0 if role == Role.CUSTOMER else 5)


async def test_a_comment_turned_internal_is_removed_and_turned_back_is_created(connect, ticket, comment, agent):
    customer = await connect(ticket.requester, "comments")
    colleague = await connect(agent, "comments")
    await change(comment, is_internal=True)
    await change(comment, content="Between us")
    await change(comment, is_internal=False)
    events = [payload for name, payload in await told(customer) if name == "comment.update"]
    assert [payload["action"] for payload in events] == ["removed", "created"]
    assert events[0]["data"] == {"id": str(comment.pk)}
    assert events[1]["data"]["content"] == "Between us"
    assert [it for it in summary(await told(colleague)) if it[0] == "comment.update"] == [
        ("comment.update", "updated")
    ] * 3


async def test_a_ticket_that_changes_hands_takes_its_conversation_along(connect, ticket, customer, other_customer):
    before = await connect(customer, *EVERY_ROOM, f"ticket:{ticket.pk}")
    after = await connect(other_customer, *EVERY_ROOM)
    await change(ticket, requester=other_customer)
    comment = await do(Comment(ticket=ticket, content="To the new requester").post)
    await change(ticket, title="Another title")

    [(name, lost)] = await told(before)
    assert (name, lost["action"], lost["data"]) == ("ticket.update", "removed", {"id": str(ticket.pk)})
    gained = [(name, payload) for name, payload in await told(after) if name != "notification"]
    assert summary(gained) == [
        ("ticket.update", "created"),
        ("comment.update", "created"),
        ("ticket.update", "updated"),
    ]
    assert gained[0][1]["data"]["requester_id"] == str(other_customer.pk)
    assert gained[1][1]["data"]["id"] == str(comment.pk)


async def test_articles_come_and_go_without_a_join(connect, customer, agent):
    reader, writer = await connect(customer), await connect(agent)
    draft = await do(Article.objects.create, title="Half-baked", body="-")
    await change(draft, body="More")
    assert await told(reader) == []
    assert summary(await told(writer)) == [("kb.update", "created"), ("kb.update", "updated")]

    await change(draft, status=ArticleStatus.PUBLISHED)
    assert summary(await told(reader)) == [("kb.update", "created"), ("notification", "kb_article_created")]
    await change(draft, status=ArticleStatus.DRAFT)
    [(name, gone)] = await told(reader)
    assert (name, gone["action"], gone["data"]) == ("kb.update", "removed", {"id": str(draft.pk)})


@pytest.mark.parametrize("role", Role.values)
async def test_changes_of_people_are_for_administrators(connect, make_user, role):
    client = await connect(await do(make_user, "watching", role))
    user = await do(make_user, "private")
    await change(user, name="Very Private")
    await do(user.deactivate)
    events = await told(client)
    if role == Role.ADMIN:
        assert [it for it in summary(events) if it[0] == "user.update"] == [
            ("user.update", "created"),
            ("user.update", "updated"),
            ("user.update", "updated"),
        ]
    else:
        assert events == []


async def test_notifications_are_ones_own_and_follow_the_update(connect, ticket, customer, agent, other_agent):
    await change(ticket, assignee=agent)
    requester, assignee, colleague = (
        await connect(customer, "comments"),
        await connect(agent, "comments"),
        await connect(other_agent, "comments"),
    )
    await do(Comment(ticket=ticket, author=other_agent, content="News").post)
    for owner in (requester, assignee):
        events = await told(owner)
        assert summary(events) == [("comment.update", "created"), ("notification", "comment_on_ticket")]
        (_, update), (_, notification) = events
        assert notification["data"] == update["data"]
        assert notification["cursor"] == update["cursor"]
        assert notification["message"] == notification["notification"]["message"]
    assert summary(await told(colleague)) == [("comment.update", "created")]


async def test_staff_and_customers_get_the_entity_as_the_api_gives_it_to_them(connect, ticket, customer, agent):
    await change(ticket, source="legacy", external_id="7")
    theirs, ours = await connect(customer, "tickets"), await connect(agent, "tickets")
    await change(ticket, title="Still on fire")
    assert "source" not in (await theirs.event("ticket.update"))["data"]
    assert (await ours.event("ticket.update"))["data"]["source"] == "legacy"


async def test_a_changed_role_counts_at_once(connect, ticket, agent):
    client = await connect(agent, "tickets", "comments", f"ticket:{ticket.pk}")
    await change(agent, role=Role.CUSTOMER)
    await do(Comment(ticket=ticket, content="No longer yours").post)
    resync = await client.event("resync_required", reason="role_changed")
    assert resync["message"]
    assert await told(client) == []
    assert (await client.ask("join", room=f"ticket:{ticket.pk}"))["error"]["code"] == "not_found"

    await change(agent, role=Role.ADMIN)
    await client.event("resync_required", reason="role_changed")
    newcomer = await do(User.objects.create_user, "newcomer")
    events = await told(client)
    assert summary(events) == [
        ("user.update", "updated"),  # their own new role
        ("user.update", "created"),
        ("notification", "user_created"),
    ]
    assert events[1][1]["data"]["id"] == str(newcomer.pk)


async def test_deactivation_ends_the_connection_before_anything_else_is_told(connect, ticket, agent):
    client = await connect(agent, "comments")

    def leave_and_go_on() -> None:
        agent.deactivate()
        Comment(ticket=ticket, content="After they left").post()

    await do(leave_and_go_on)
    with pytest.raises(Closed) as ended:
        await client.next_event()
    if isinstance(client, PlainClient):
        assert (ended.value.code, bool(ended.value.reason)) == (4401, True)


async def test_a_revocation_does_not_wait_for_those_who_come_back(connect, agent, admin, monkeypatch):
    """While a replay keeps the database's thread: a lost right is lost all the same."""
    revoked, returning = await connect(agent), await connect(admin)
    missed, is_read, may_go_on = replay.missed, threading.Event(), threading.Event()

    def read_slowly(*arguments):
        is_read.set()
        assert may_go_on.wait(20)
        return missed(*arguments)

    def deactivate() -> None:
        agent.deactivate()
        publisher.publish_once()
        connections.close_all()

    monkeypatch.setattr(replay, "missed", read_slowly)
    joining = asyncio.create_task(returning.ask("join", room="comments", after=0))
    try:
        assert await asyncio.to_thread(is_read.wait, 10)
        await asyncio.to_thread(deactivate)
        await revoked.closed()
        assert not joining.done()
    finally:
        may_go_on.set()
        assert (await joining)["ok"] is True


# --- what passes -----------------------------------------------------------------------------------------------------
async def signs(client) -> list[str]:
    """The names of the passing things the client was told of, up to now."""
    return [name for name, _ in await told(client) if name in ("typing", "presence")]


async def test_who_types_in_a_ticket_is_told_to_whom_it_belongs_at_that_moment(
    connect, ticket, customer, other_customer, agent
):
    room = f"ticket:{ticket.pk}"
    requester, staff = await connect(customer, room), await connect(agent, room)
    for operation in ("typing", "viewing"):
        assert (await staff.ask(operation, ticket_id=str(ticket.pk)))["ok"] is True
    assert await signs(requester) == ["typing"]  # who looks is told to staff only

    await change(ticket, requester=other_customer)
    successor = await connect(other_customer, room)
    for operation in ("typing", "viewing"):
        assert (await staff.ask(operation, ticket_id=str(ticket.pk)))["ok"] is True
        # Still in the room, and not to be heard there either.
        assert (await requester.ask(operation, ticket_id=str(ticket.pk)))["error"]["code"] == "not_found"
    assert await signs(requester) == []
    assert await signs(successor) == ["typing"]
    assert await signs(staff) == []

    await change(ticket, requester=customer)
    assert (await staff.ask("typing", ticket_id=str(ticket.pk)))["ok"] is True
    assert await signs(requester) == ["typing"]
    assert await signs(successor) == []


async def test_who_is_not_staff_any_more_is_not_told_who_types_or_looks(connect, ticket, agent, other_agent):
    room = f"ticket:{ticket.pk}"
    demoted, staff = await connect(agent, room), await connect(other_agent, room)
    await change(agent, role=Role.CUSTOMER)
    for operation in ("typing", "viewing"):
        assert (await staff.ask(operation, ticket_id=str(ticket.pk)))["ok"] is True
    assert await signs(demoted) == []
    assert (await demoted.ask("typing", ticket_id=str(ticket.pk)))["error"]["code"] == "not_found"


async def test_who_is_no_administrator_any_more_is_told_nothing_of_people(connect, admin, customer, other_customer):
    client = await connect(admin, "users")
    await change(other_customer, name="While it was theirs")
    assert "While it was theirs" in str(await told(client))
    await change(admin, role=Role.AGENT)
    await told(client)
    await change(other_customer, name="Not theirs any more")
    await change(customer, name="Nor this")
    assert await told(client) == []


async def test_what_hangs_on_a_ticket_goes_with_it(connect, ticket, customer, other_customer, comment):
    """Changed after the ticket moved, by the scope that the thing has then: not by the one it was opened under."""
    client = await connect(customer, *EVERY_ROOM, f"ticket:{ticket.pk}")
    file = attachment(ticket)
    await do(file.save)
    await told(client)
    await change(ticket, requester=other_customer)
    await change(comment, content="After the move")
    await change(file, filename="after.png")
    await do(comment.delete)
    await do(file.delete)
    await do(ticket.delete)
    assert summary(await told(client)) == [
        ("ticket.update", "removed"),
        ("comment.update", "removed"),
        ("attachment.update", "removed"),
    ]


async def test_who_gets_a_ticket_gets_what_was_said_and_loses_it_with_the_ticket(
    connect, ticket, other_customer, agent, comment
):
    file, note = attachment(ticket), Comment(ticket=ticket, author=agent, content="Between us", is_internal=True)
    await do(file.save)
    await do(note.post)
    client, colleague = await connect(other_customer, *EVERY_ROOM), await connect(agent, *EVERY_ROOM)
    hanging = ("comment.update", "attachment.update")
    await change(ticket, requester=other_customer)
    events = await told(client)
    assert summary(events) == [("ticket.update", "created"), *((name, "created") for name in hanging)]
    assert events[1][1]["data"]["content"] == comment.content
    assert summary(await told(colleague)) == [("ticket.update", "updated")]  # to whom nothing else has changed
    await do(ticket.delete)
    assert summary(await told(client)) == [("ticket.update", "deleted"), *((name, "deleted") for name in hanging)]
    # Staff sees the internal note go, too.
    assert sorted(summary(await told(colleague))) == sorted(
        [("ticket.update", "deleted"), *((name, "deleted") for name in ("comment.update", *hanging))]
    )


async def test_another_assignee_changes_nobodys_rights(connect, ticket, customer, agent, other_agent):
    client, colleague = await connect(customer, "tickets"), await connect(agent, "tickets")
    await change(ticket, assignee=other_agent)
    await change(ticket, assignee=None)
    for it in (client, colleague):
        assert [name for name in summary(await told(it)) if name[0] == "ticket.update"] == [
            ("ticket.update", "updated")
        ] * 2
