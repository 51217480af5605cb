"""Every snippet of the seed, run as it is written; only the port gives way where 5000 is taken.

The files of `node/seed/` are the seed's code blocks, byte by byte. Its Express receiver runs in every test that
receives a webhook; here are its requests, its payload, its socket snippets and its React hooks.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .api import NEW_PASSWORD, Api, Entity
from .browser import SeedPage
from .contract import HEAD, check_secret
from .node_scripts import NODE
from .people import People
from .samples import png
from .system import REPOSITORY, System

pytestmark = pytest.mark.live

SEED = NODE / "seed"


def test_the_snippets_are_the_documents_own() -> None:
    documents = [path.read_text() for path in (REPOSITORY / "docs").rglob("*.md")]
    [seed] = [text for text in documents if "# Webhooks and Real-time Notifications" in text.splitlines()[:1]]
    for snippet in SEED.iterdir():
        assert f"\n{snippet.read_text()}```" in seed, snippet.name


@pytest.fixture
def reader(people: People, system: System, request: pytest.FixtureRequest) -> Iterator[Api]:
    """Somebody who follows the document and whom nobody notifies of anything."""
    name = "reader-" + re.sub(r"\W", "", request.node.name)[-20:].lower()
    people.admin.api.create_user(name)
    reader = Api(system.base).sign_in(name, NEW_PASSWORD)
    yield reader
    reader.close()


def http_snippet() -> tuple[str, str, dict[str, str], str]:
    head, _, body = (SEED / "configure-webhook.http").read_text().partition("\n\n")
    request, *headers = head.splitlines()
    method, path = request.split()
    return method, path, dict(line.split(": ", 1) for line in headers), body


def test_configure_webhook_url(reader: Api) -> None:
    method, path, headers, body = http_snippet()
    headers["Authorization"] = headers["Authorization"].replace("<jwt-token>", reader.access)
    response = reader.send(method, path, headers=headers, data=body)
    assert response.status_code in (200, 201)
    assert response.json()["webhook_url"] == "https://your-app.com/api/webhooks/notifications"
    check_secret(response.json()["secret"])


def test_internal_webhooks_use_relative_urls(reader: Api) -> None:
    answer = reader.ask("PUT", "/api/users/me/webhook", json.loads((SEED / "relative-url.json").read_text()))
    assert answer["webhook_url"] == "/api/notifications/webhooks/notifications"
    attempt = reader.test_webhook()
    assert attempt["status"] == 200, attempt


def test_the_payload_has_the_documented_fields(cast: People, ticket: Entity) -> None:
    documented = json.loads(re.sub(r"^\s*//.*$", "", (SEED / "payload.jsonc").read_text(), flags=re.MULTILINE))
    comment = cast.agent.api.comment_on(ticket["id"], "This is the comment content")
    request = cast.customer.receiver.request(
        cast.customer.username, lambda body: body["notification"]["related_id"] == comment["id"], "the comment"
    )
    payload = request["payload"]
    assert list(payload) == list(documented)
    assert list(payload["notification"]) == list(documented["notification"])
    assert set(documented["data"]) <= set(payload["data"])
    pattern = re.escape(documented["notification"]["message"])
    pattern = pattern.replace(re.escape("Issue Title"), re.escape(ticket["title"]))
    pattern = pattern.replace(re.escape("John Doe"), re.escape(comment["author"]["name"]))
    assert re.fullmatch(pattern, payload["notification"]["message"])


def test_express_receiver(cast: People, ticket: Entity) -> None:
    """As written it stores the entity, tells its own clients, and answers what the internal receiver answers, too."""
    receiver = cast.agent.receiver
    cast.colleague.api.change_ticket(ticket["id"], priority="high")
    request = receiver.request(
        cast.agent.username, lambda body: body["notification"]["related_id"] == ticket["id"], "ticket_updated"
    )
    assert receiver.answer(request) == 200
    data, notification = request["payload"]["data"], request["payload"]["notification"]
    stored = receiver.inbox.all(lambda it: it["kind"] == "store" and it["data"] == data)
    emitted = receiver.inbox.all(lambda it: it["kind"] == "emit" and it["data"] in (data, notification))
    assert [it["entity"] for it in stored] == ["ticket"]
    assert [it["event"] for it in emitted] == ["ticket.update", "notification"]


@pytest.fixture
def page(chromium: str, system: System) -> Iterator[Any]:
    """Opens pages of the product's own origin, signed in as somebody, and closes them at the end."""
    opened: list[SeedPage] = []

    def open_page(name: str, username: str, password: str, token: str) -> SeedPage:
        page = SeedPage(chromium, system.base, name, username=username, password=password, token=token)
        opened.append(page)
        assert page.signed_in()
        return page

    yield open_page
    for page in opened:
        page.close()
    assert not [error for page in opened for error in page.errors()]


def test_websocket_integration(page: Any, people: People, ticket: Entity) -> None:
    """`io()` with nothing added: the session of the signed-in browser, on the page's own origin."""
    seed = page("toast.js", *people.customer.credentials)
    seed.state(lambda state: state["connected"], "io() connected")
    comment = people.agent.api.comment_on(ticket["id"], "Is it out?")
    [notification] = seed.call("addNotification", lambda args: args[0]["related_id"] == comment["id"], "the comment")
    assert set(HEAD) <= set(notification)
    [message] = seed.call("toast.success", lambda args: args[0] == notification["message"], "its message")
    assert message.startswith("New comment on your ticket")


def test_client_connection_and_event_handling(page: Any, people: People, ticket: Entity) -> None:
    """All six handlers, on a page where an admin is signed in: it is the one who may see each kind."""
    seed = page("events.js", *people.boss.credentials)
    seed.state(lambda state: state["connected"], "io('http://localhost:5000') connected")

    def handled(name: str, **fields: Any) -> Entity:
        def same(args: list[Any]) -> bool:
            return args[0] is not None and fields.items() <= args[0].items()

        return seed.call(name, same, str(fields))[0]

    # The page joined when it connected and does not wait for the answers: try until the first update is seen.
    people.agent.api.change_ticket(ticket["id"], priority="low")
    people.agent.api.change_ticket(ticket["id"], priority="high")
    assert handled("updateTicketInUI", id=ticket["id"], priority="high") == people.boss.api.ticket(ticket["id"])
    comment = people.agent.api.comment_on(ticket["id"], "Still burning?")
    assert handled("updateCommentInUI", id=comment["id"]) == people.boss.api.comment(comment["id"])
    attachment = people.agent.api.attach(ticket["id"], "proof.png", png(), "image/png")
    assert handled("updateAttachmentInUI", id=attachment["id"]) == people.boss.api.attachment(attachment["id"])
    article = people.agent.api.write_article("On fire", status="published")
    assert handled("updateKBArticleInUI", id=article["id"]) == people.boss.api.article(article["id"])
    user = people.admin.api.create_user("seen-on-the-page")
    assert handled("updateUserInUI", id=user["id"]) == people.boss.api.user(user["id"])
    notification, data = seed.call("handleNotification", lambda args: args[0]["related_id"] == user["id"], "the user")
    assert notification["type"] == "user_created"
    assert data == people.boss.api.user(user["id"])


def test_react_hooks(page: Any, people: People, system: System) -> None:
    """Both hooks on one page: what changes in the help desk changes the page's state, and in place.

    Signed in is an agent whose tickets change, since tickets and comments both come to an assignee.
    """
    agent = people.admin.api.create_user("hooked", "agent")
    api = Api(system.base).sign_in("hooked", NEW_PASSWORD)
    ticket = people.admin.api.open_ticket(
        "Where is my parcel?", requester_id=people.customer.id, assignee_id=agent["id"]
    )
    seed = page("hooks.js", "hooked", NEW_PASSWORD, api.access)

    assert 200 <= seed.response("PUT", "/api/user/webhook") < 300
    seed.state(lambda state: state["isConnected"], "isConnected turned true")
    assert api.get("/api/users/me/webhook")["webhook_url"]

    comment = people.customer.api.comment_on(ticket["id"], "It has been a week.")
    state = seed.state(lambda state: comment["id"] in [it["id"] for it in state["comments"]], "the comment in state")
    assert state["comments"] == [api.comment(comment["id"])]
    assert state["notifications"][0]["type"] == "comment_on_ticket"
    related_type, data = seed.call("updateEntity", lambda args: args[1]["id"] == comment["id"], "the comment")
    assert (related_type, data) == ("comment", api.comment(comment["id"]))

    people.customer.api.change_comment(comment["id"], "It has been two weeks.")
    state = seed.state(
        lambda state: [it["content"] for it in state["comments"]] == ["It has been two weeks."], "the comment in place"
    )
    assert [it["type"] for it in state["notifications"]] == ["comment_updated", "comment_on_ticket"]

    people.admin.api.change_ticket(ticket["id"], priority="high")
    seed.state(lambda state: [it["priority"] for it in state["tickets"]] == ["high"], "the ticket in state")
    people.admin.api.change_ticket(ticket["id"], priority="urgent")
    seed.state(lambda state: [it["priority"] for it in state["tickets"]] == ["urgent"], "the ticket in place")
    related_type, data = seed.call("updateEntity", lambda args: args[1]["id"] == ticket["id"], "the ticket")
    assert (related_type, data["priority"]) == ("ticket", "high")
    api.close()
