"""The table of operations: answers, refusals, and what others are told."""

import pytest
from channels.db import database_sync_to_async

from comments.models import Comment
from helpdesk.accounts.models import Role
from notifications.models import Notification
from notifications.sockets import limits, operations, presence

from .changes import do, summary, told
from .clients import PlainClient, token_of

NOWHERE = "018f0000-0000-7000-8000-000000000000"


def refused(answer, code):
    assert answer["ok"] is False, answer
    assert set(answer) == {"ok", "error"}
    assert set(answer["error"]) == {"code", "message"}
    assert answer["error"]["message"]
    assert answer["error"]["code"] == code, answer


# --- rooms -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", Role.values)
async def test_who_may_join_which_room(connect, make_user, ticket, role):
    client = await connect(await do(make_user, "someone", role))
    for room in ("tickets", "comments", "attachments", "kb"):
        answer = await client.ask("join", room=room)
        assert (answer["ok"], answer["room"]) == (True, room)
    own = await client.ask("join", room=f"ticket:{ticket.pk}")
    users = await client.ask("join", room="users")
    if role == Role.CUSTOMER:
        refused(own, "not_found")
    else:
        assert own["room"] == f"ticket:{ticket.pk}"
    if role == Role.ADMIN:
        assert users["ok"] is True
    else:
        refused(users, "forbidden")


async def test_the_room_of_a_ticket_of_ones_own(connect, ticket):
    client = await connect(ticket.requester)
    answer = await client.ask("join", room=f"ticket:{str(ticket.pk).upper()}")
    assert answer["room"] == f"ticket:{ticket.pk}"


async def test_a_ticket_that_is_not_for_you_looks_like_none(connect, ticket, other_customer):
    client = await connect(other_customer)
    invisible = await client.ask("join", room=f"ticket:{ticket.pk}")
    assert invisible == await client.ask("join", room=f"ticket:{NOWHERE}")
    refused(invisible, "not_found")


async def test_a_deleted_ticket_has_no_room(connect, ticket, agent):
    client = await connect(agent)
    await do(ticket.delete)
    refused(await client.ask("join", room=f"ticket:{ticket.pk}"), "not_found")


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("nowhere", "unknown_room"),
        ("", "unknown_room"),
        ("own", "unknown_room"),
        ("staff", "unknown_room"),
        ("user.1", "unknown_room"),
        ("x" * 5000, "unknown_room"),
        (None, "invalid"),
        (17, "invalid"),
        (["tickets"], "invalid"),
        ({"a": 1}, "invalid"),
        ("ticket:", "not_found"),
        ("ticket:x", "not_found"),
        ("ticket:{018f0000-0000-7000-8000-000000000000}", "not_found"),
        ("ticket:018f0000000070008000000000000000", "not_found"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_room_that_is_none(connect, customer, room, code):
    client = await connect(customer)
    refused(await client.ask("join", room=room), code)
    refused(await client.ask("leave", room=room), code)
    assert (await client.ask("join", room="tickets"))["ok"] is True


@pytest.mark.parametrize("after", ["garbage", "7", -1, 1.5, True, 2**63, {"a": 1}, [1]], ids=repr)
async def test_what_never_was_a_cursor(connect, customer, after):
    refused(await (await connect(customer)).ask("join", room="tickets", after=after), "invalid")


async def test_who_left_a_room_hears_no_more_of_it(connect, ticket, agent):
    client = await connect(agent, "comments", "tickets")
    assert await client.ask("leave", room="comments") == {"ok": True}
    assert await client.ask("leave", room="comments") == {"ok": True}
    await do(Comment(ticket=ticket, content="Still in?").post)
    assert await told(client) == []


async def test_a_connection_is_in_a_limited_number_of_rooms(connect, customer, monkeypatch):
    monkeypatch.setattr(limits, "ROOMS_PER_CONNECTION", 2)
    client = await connect(customer, "tickets", "comments")
    refused(await client.ask("join", room="kb"), "too_many_rooms")
    assert (await client.ask("join", room="tickets"))["ok"] is True
    await client.ask("leave", room="tickets")
    assert (await client.ask("join", room="kb"))["ok"] is True


async def test_all_connections_of_a_person_are_in_a_limited_number_of_rooms(connect, customer, agent, monkeypatch):
    monkeypatch.setattr(limits, "ROOMS_PER_CONNECTION", 2)
    monkeypatch.setattr(limits, "BUSY_CONNECTIONS", 1)
    first, second, other = await connect(customer, "tickets"), await connect(customer, "comments"), await connect(agent)
    refused(await second.ask("join", room="kb"), "too_many_rooms")
    assert (await other.ask("join", room="kb"))["ok"] is True
    await first.ask("leave", room="tickets")
    assert (await second.ask("join", room="kb"))["ok"] is True


# --- who is there ----------------------------------------------------------------------------------------------------
async def test_those_who_look_at_a_ticket_know_who_writes(
    connect, ticket, customer, other_customer, agent, other_agent
):
    room = f"ticket:{ticket.pk}"
    requester, colleague = await connect(customer, room), await connect(other_agent, room)
    elsewhere, stranger = await connect(other_agent, "tickets"), await connect(other_customer, "tickets")
    here, other_tab = await connect(agent, room), await connect(agent, room)

    writing = {
        "ticket_id": str(ticket.pk),
        "person": {"id": str(agent.pk), "name": "Agent", "role": "agent"},
        "expires_in": presence.TYPING_SECONDS,
    }
    assert await here.ask("typing", ticket_id=str(ticket.pk)) == {"ok": True}
    assert await here.ask("typing", ticket_id=str(ticket.pk), active=False) == {"ok": True}
    for client in (requester, colleague):
        assert await told(client) == [("typing", writing), ("typing", {**writing, "expires_in": 0})]
    assert (await requester.ask("typing", ticket_id=str(ticket.pk)))["ok"] is True
    for client in (colleague, here, other_tab):
        [(_, payload)] = await told(client)
        assert payload["person"]["id"] == str(customer.pk)
    for client in (elsewhere, stranger, requester):
        assert await told(client) == []


async def test_a_requester_does_not_learn_of_internal_notes_being_written(connect, ticket, customer, agent, admin):
    room = f"ticket:{ticket.pk}"
    requester, colleague, writer = [await connect(it, room) for it in (customer, admin, agent)]
    await writer.ask("typing", ticket_id=str(ticket.pk), is_internal=True)
    assert summary(await told(colleague)) == [("typing", "")]
    assert await told(requester) == []


async def test_a_staff_member_who_is_the_requester_is_told_once(connect, ticket, agent, other_agent):
    def hand_over():
        ticket.requester = agent
        ticket.save()

    await do(hand_over)
    requester, colleague = [await connect(it, f"ticket:{ticket.pk}") for it in (agent, other_agent)]
    await colleague.ask("typing", ticket_id=str(ticket.pk))
    assert [name for name, _ in await told(requester)] == ["typing"]


async def test_who_may_not_see_a_ticket_is_not_told_and_tells_nobody(connect, ticket, customer, other_customer, agent):
    room = f"ticket:{ticket.pk}"
    before, watching = await connect(customer, room), await connect(agent, room)

    def hand_over():
        ticket.requester = other_customer
        ticket.save()

    await do(hand_over)
    for operation in ("typing", "viewing"):
        refused(await before.ask(operation, ticket_id=str(ticket.pk)), "not_found")
        assert (await watching.ask(operation, ticket_id=str(ticket.pk)))["ok"] is True
    assert summary(await told(before)) == [("ticket.update", "removed")]
    assert summary(await told(watching)) == [("ticket.update", "updated")]


# --- notifications ---------------------------------------------------------------------------------------------------
async def test_a_notification_is_read_by_its_owner_only(connect, ticket, customer, agent, admin):
    client = await connect(customer)
    await do(Comment(ticket=ticket, author=agent, content="Read this").post)
    id_ = (await client.event("notification"))["id"]

    async def read_at():
        return (await database_sync_to_async(Notification.objects.get)(pk=id_)).read_at

    for other in (agent, admin):
        refused(await (await connect(other)).ask("notification.read", id=id_), "not_found")
    assert await read_at() is None
    assert await client.ask("notification.read", id=id_) == {"ok": True, "unread": 0}
    first = await read_at()
    assert first is not None
    assert await client.ask("notification.read", id=id_) == {"ok": True, "unread": 0}
    assert await read_at() == first


# --- what is none ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("typing", {}, "invalid"),
        ("typing", {"ticket_id": "x"}, "not_found"),
        ("viewing", {"ticket_id": NOWHERE}, "not_found"),
        ("viewing", {"ticket_id": NOWHERE, "active": False}, "not_found"),
        ("notification.read", {}, "invalid"),
        ("notification.read", {"id": "x"}, "not_found"),
        ("notification.read", {"id": NOWHERE}, "not_found"),
        ("auth", {}, "invalid"),
        ("auth", {"token": "garbage"}, "token_invalid"),
        ("no.such.operation", {}, "unknown_operation"),
        ("ticket.update", {"action": "created", "data": {"id": NOWHERE}}, "unknown_operation"),
        ("", {}, "unknown_operation"),
        ("__class__", {}, "unknown_operation"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_refused(connect, customer, operation, arguments, code):
    client = await connect(customer)
    refused(await client.ask(operation, **arguments), code)
    assert (await client.ask("join", room="tickets"))["ok"] is True


@pytest.mark.parametrize("arguments", [(None,), ("tickets",), (17,), ([],), ({"room": "tickets"}, "more")], ids=repr)
async def test_the_arguments_of_an_operation_are_one_object(stock, customer, arguments):
    client = await stock({"token": token_of(customer)}).open()
    refused(await client.ask("join", *arguments), "invalid")


async def test_a_failure_of_ours_is_an_answer_too(connect, customer, monkeypatch, caplog):
    async def broken(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setitem(operations.OPERATIONS, "typing", broken)
    client = await connect(customer)
    refused(await client.ask("typing"), "internal")
    assert "a bug" in caplog.text
    assert (await client.ask("join", room="tickets"))["ok"] is True


# --- too much --------------------------------------------------------------------------------------------------------
async def test_too_many_messages_are_refused_and_then_end_the_connection(connect, customer, agent, monkeypatch):
    monkeypatch.setattr(limits, "OPERATIONS_AT_ONCE", 3)
    monkeypatch.setattr(limits, "OPERATIONS_PER_SECOND", 0.001)
    other = await connect(agent)
    client = await connect(customer)
    for _ in range(3):
        assert (await client.ask("leave", room="tickets"))["ok"] is True
    for _ in range(3):
        refused(await client.ask("leave", room="tickets"), "too_many_messages")
    if isinstance(client, PlainClient):
        await client.send({"type": "leave", "id": 99, "room": "tickets"})
    else:
        await client.client.emit("leave", {"room": "tickets"})
    closed = await client.closed()
    if isinstance(client, PlainClient):
        assert (closed.code, bool(closed.reason)) == (4429, True)
    assert (await other.ask("join", room="tickets"))["ok"] is True


async def test_all_connections_of_a_person_have_a_budget_together(connect, customer, agent, monkeypatch):
    monkeypatch.setattr(limits, "OPERATIONS_AT_ONCE", 3)
    monkeypatch.setattr(limits, "OPERATIONS_PER_SECOND", 0.001)
    monkeypatch.setattr(limits, "BUSY_CONNECTIONS", 1)
    first, second, other = await connect(customer), await connect(customer), await connect(agent)
    for client in (first, second, first):
        assert (await client.ask("leave", room="tickets"))["ok"] is True
    refused(await second.ask("leave", room="tickets"), "too_many_messages")
    assert (await other.ask("leave", room="tickets"))["ok"] is True


def test_the_budget_of_operations_comes_back(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    budget = limits.OperationBudget()
    for _ in range(limits.OPERATIONS_AT_ONCE):
        budget.spend()
    with pytest.raises(limits.Refusal):
        budget.spend()
    now[0] += 2.5 / limits.OPERATIONS_PER_SECOND
    budget.spend()
    with pytest.raises(limits.Refusal):
        budget.spend()
    now[0] += 3600
    for _ in range(limits.OPERATIONS_AT_ONCE):
        budget.spend()
    assert not budget.is_abused


@pytest.mark.parametrize("flags", [{"active": "no"}, {"active": None}, {"is_internal": 1}], ids=str)
async def test_flags_are_true_or_false(connect, ticket, customer, flags):
    client = await connect(customer)
    refused(await client.ask("typing", ticket_id=str(ticket.pk), **flags), "invalid")
