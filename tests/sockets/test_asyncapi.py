"""`docs/asyncapi.yaml` is what the server really sends: every frame of both doors is compared with it."""

from typing import Any

import pytest
import yaml
from channels.db import database_sync_to_async
from jsonschema import Draft7Validator, FormatChecker
from jsonschema.exceptions import best_match

from comments.models import Comment
from helpdesk.accounts.models import Role
from helpdesk.changes.actor import acting_as
from knowledge.models import Article, ArticleStatus
from notifications import asyncapi, reading
from notifications.catalogue import TYPES
from notifications.models import Event
from notifications.payloads import encode
from notifications.sockets import limits, operations
from notifications.sockets.events import _UPDATE_NAMES
from notifications.webhooks import endpoints, trial
from tests.documentation.pages import REPOSITORY
from tickets.models import Attachment, Ticket

from .changes import do, told
from .clients import Client, PlainClient, Refused, SocketIOClient, token_of

DOCUMENT = yaml.safe_load((REPOSITORY / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
NOWHERE = "018f0000-0000-7000-8000-000000000000"


class Contract:
    """The document, asked about frames. Remembers what it has seen."""

    def __init__(self, door: str) -> None:
        self.door = door
        self.seen: set[tuple[str, str]] = set()

    def check(self, message: str, payload: Any, variant: str = "") -> None:
        schema = DOCUMENT["channels"][self.door]["messages"][message]["payload"]
        # `$ref`s are resolved from the document's root.
        validator = Draft7Validator({**DOCUMENT, **schema}, format_checker=FormatChecker())
        error = best_match(validator.iter_errors(payload))
        assert error is None, f"{message} at {error.json_path}: {error.message}\n{payload}"
        self.seen.add((message, variant))

    def event(self, name: str, payload: Any) -> None:
        variant = payload.get("action") or (payload.get("notification") or {}).get("type") or ""
        self.check(name, payload, variant if name.endswith(".update") or name == "notification" else "")

    def answer(self, operation: str, payload: Any) -> None:
        self.check(f"{operation}.answer", payload, "ok" if payload["ok"] else "refused")


@pytest.fixture
def contract(request, monkeypatch) -> Contract:
    """Everything that clients get and ask in this test goes through it."""
    door = request.node.callspec.params["connect"]
    contract = Contract(door)
    receive, heard = PlainClient.receive, SocketIOClient._heard
    asked: dict[Any, str] = {}

    async def plain_receive(client: PlainClient) -> dict[str, Any]:
        frame = await receive(client)
        match frame["type"]:
            case "event":
                contract.event(frame["event"], frame)
            case "ack":
                contract.answer(asked[id(client), frame["id"]], frame)
            case kind:
                contract.check(kind, frame)
        return frame

    async def socketio_heard(client: SocketIOClient, event: str, payload: Any) -> None:
        contract.event(event, payload)
        await heard(client, event, payload)

    plain_send, socketio_ask = PlainClient.send, SocketIOClient.ask

    async def send(client: PlainClient, frame: Any) -> None:
        if isinstance(frame, dict):
            asked[id(client), frame["id"]] = frame["type"]
        await plain_send(client, frame)

    async def ask(client: SocketIOClient, operation: str, /, *arguments: Any, **fields: Any) -> Any:
        answer = await socketio_ask(client, operation, *arguments, **fields)
        contract.answer(operation, answer)
        return answer

    monkeypatch.setattr(PlainClient, "receive", plain_receive)
    monkeypatch.setattr(PlainClient, "send", send)
    monkeypatch.setattr(SocketIOClient, "_heard", socketio_heard)
    monkeypatch.setattr(SocketIOClient, "ask", ask)
    return contract


async def every_change(ticket, customer, other_customer, agent, admin, make_user) -> None:
    """Everything that can happen, by somebody whom it does not concern."""

    def tickets() -> Attachment:
        with acting_as(admin):
            ticket.assignee = agent
            ticket.save()
            ticket.priority = "high"
            ticket.save()
        with acting_as(other_customer):
            comment = Comment(ticket=ticket, content="One", author=customer).post()
            reply = Comment(ticket=ticket, content="Two", author=admin, parent=comment).post()
            comment.content = "Once"
            comment.save()
            reply.is_internal = True
            reply.save()
            comment.delete()
            file = Attachment(ticket=ticket, file="x/y.png", filename="y.png", content_type="image/png", size=4)
            file.save()
            file.filename = "z.png"
            file.save()
            return file

    def the_rest(file: Attachment) -> None:
        with acting_as(other_customer):
            file.is_internal = True
            file.save()
            file.is_internal = False
            file.save()
            file.delete()
            article = Article.objects.create(title="How to", body="-", status=ArticleStatus.PUBLISHED)
            article.title = "How not to"
            article.save()
            article.status = ArticleStatus.DRAFT
            article.save()
            article.status = ArticleStatus.PUBLISHED
            article.save()
            article.delete()
            person = make_user("new")
            person.name = "Newer"
            person.save()
            person.deactivate()
            endpoint, _secret = endpoints.create(admin, "/api/notifications/webhooks/notifications")
            trial.send_test(endpoint)
            endpoints.disable(endpoint, "It answered 410 Gone.")
            ticket.requester = other_customer
            ticket.save()
            ticket.requester = customer
            ticket.save()
            ticket.delete()

    await do(the_rest, await do(tickets))


async def test_every_frame(
    connect, contract, ticket, customer, other_customer, agent, other_agent, admin, make_user, monkeypatch
):
    room = f"ticket:{ticket.pk}"
    people = (customer, agent, admin)
    clients = [await connect(user, "tickets", "comments", "attachments", "kb", room) for user in people]
    requester, staff, boss = clients
    await boss.ask("join", room="users")
    for client in clients:
        assert (await client.ask("viewing", ticket_id=str(ticket.pk)))["ok"]
        assert (await client.ask("typing", ticket_id=str(ticket.pk), active=True, is_internal=False))["ok"]
    await staff.ask("viewing", ticket_id=str(ticket.pk), active=False)

    await every_change(ticket, customer, other_customer, agent, admin, make_user)
    await do(new_ticket, other_customer)
    received = {"event": "notification.created", "notification": {"id": "n"}, "data": {}}
    await do(webhook_received, customer, received)
    found = [await told(client) for client in clients]
    notified = next(payload["id"] for name, payload in found[0] if name == "notification")
    name = "id" if isinstance(requester, SocketIOClient) else "notification_id"
    assert (await requester.ask("notification.read", **{name: notified}))["ok"]
    await do(reading.mark_read, customer)
    await told(requester)

    assert (await staff.ask("auth", token=await database_sync_to_async(token_of)(agent)))["ok"]
    assert (await staff.ask("leave", room="kb"))["ok"]
    await staff.ask("join", room="comments", after=2**40)
    await staff.event("resync_required", reason="unknown_cursor")
    for operation, arguments in REFUSED.items():
        assert (await staff.ask(operation, **arguments))["ok"] is False
    await do(change_role, other_agent, await connect(other_agent))
    await break_off(contract, staff, monkeypatch)

    everything = {(event, "") for event in asyncapi.EVENTS if not event.endswith(".update") and event != "notification"}
    everything |= {
        (event, action) for event in asyncapi.UPDATES for action in ("created", "updated", "deleted", "removed")
    }
    everything -= {("user.update", "deleted"), ("user.update", "removed")}  # people are deactivated
    everything |= {("notification", type_) for type_ in TYPES}
    everything |= {(f"{name}.answer", how) for name in asyncapi.OPERATIONS for how in ("ok", "refused")}
    if contract.door == "plain":
        everything |= {("ready", ""), ("error", "")}
    assert contract.seen == everything


REFUSED: dict[str, dict[str, Any]] = {
    "join": {"room": "nowhere"},
    "leave": {"room": "nowhere"},
    "typing": {"ticket_id": NOWHERE},
    "viewing": {"ticket_id": NOWHERE},
    "notification.read": {"notification_id": NOWHERE},
    "auth": {"token": "garbage"},
}


def new_ticket(requester: Any) -> None:
    with acting_as(requester):
        Ticket(title="New", description="-", requester=requester).save()


def webhook_received(person: Any, payload: dict[str, Any]) -> None:
    text = encode(payload)
    Event.objects.create(
        entity="webhook",
        action="received",
        entity_id=person.pk,
        visibility="person",
        person_id=person.pk,
        payload_staff=text,
        payload_customer=text,
    )


def change_role(person: Any, _client: Client) -> None:
    person.role = Role.ADMIN
    person.save()


async def break_off(contract: Contract, client: Client, monkeypatch: Any) -> None:
    """Be thrown out, which the plain door explains in a frame."""
    monkeypatch.setattr(limits, "FRAME_BYTES", 100)
    if isinstance(client, PlainClient):
        await client.send("x" * 101)
        await client.frame("error")


# --- the document itself ---------------------------------------------------------------------------------------------
def test_the_document_is_up_to_date():
    written = (REPOSITORY / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    assert written == asyncapi.as_yaml(asyncapi.sockets_document()), "run `manage.py document_sockets`"


def test_it_knows_everything_there_is():
    assert list(asyncapi.OPERATIONS) == list(operations.OPERATIONS)
    assert {*_UPDATE_NAMES.values()} == set(asyncapi.UPDATES)


def test_what_is_asked_is_described():
    for door in ("socketio", "plain"):
        contract = Contract(door)
        head = {} if door == "socketio" else {"id": 1}
        for operation, arguments in REFUSED.items():
            frame = {**arguments, **head, **({"type": operation} if head else {})}
            if operation == "notification.read" and not head:
                frame = {"id": NOWHERE}
            if "room" in frame:
                frame["room"] = "kb"
            contract.check(f"{operation}.ask", frame)


@pytest.mark.parametrize("payload", [{"ok": True, "more": 1}, {"ok": False}, {"ok": False, "error": {"code": "odd"}}])
def test_the_comparison_would_notice(payload):
    with pytest.raises(AssertionError):
        Contract("socketio").check("leave.answer", payload)


async def test_who_is_turned_away_is_told_in_the_form_of_the_document(plain, stock):
    client = await plain("no-token").connect()
    Contract("plain").check("error", await client.receive())
    with pytest.raises(Refused) as refused:
        await stock({"token": "no-token"}).open()
    assert refused.value.error["data"]["code"] in asyncapi.CODES
