"""Who must not know does not know. Silence is shown by a later marker that does arrive, not by waiting for nothing."""

import pytest

from .api import NEW_PASSWORD, Api, Entity
from .contract import check_refusal
from .people import People
from .samples import png
from .sockets import PlainClient, SocketIoDriver
from .system import System
from .tokens import Forge

pytestmark = pytest.mark.live


def test_another_customer_learns_nothing_of_a_ticket(cast: People, ticket: Entity) -> None:
    stranger = cast.stranger
    refusal = check_refusal(stranger.socket.ask("join", room=f"ticket:{ticket['id']}"))
    unknown = check_refusal(stranger.socket.ask("join", room="ticket:018f0000-0000-7000-8000-000000000000"))
    assert refusal == unknown, "what is not for you looks like what does not exist"
    comment = cast.agent.api.comment_on(ticket["id"], "Is it still burning?")
    reply = cast.customer.api.comment_on(ticket["id"], "A little.", parent_id=comment["id"])
    attachment = cast.customer.api.attach(ticket["id"], "flames.png", png(), "image/png")
    cast.agent.api.change_comment(comment["id"], "Does it still burn?")
    cast.agent.api.change_ticket(ticket["id"], priority="urgent")
    cast.customer.api.delete_attachment(attachment["id"])
    cast.agent.api.delete_comment(comment["id"])
    cast.admin.api.delete_ticket(ticket["id"])

    stranger.marker()
    for entity in (ticket, comment, reply, attachment):
        assert not stranger.mentions(entity["id"])


def test_another_customer_cannot_reach_a_ticket_by_any_path(people: People, ticket: Entity) -> None:
    comment = people.customer.api.comment_on(ticket["id"], "Mine alone.")
    attachment = people.customer.api.attach(ticket["id"], "mine.png", png(), "image/png")
    stranger = people.stranger.api
    for method, path, body in (
        ("GET", f"/api/tickets/{ticket['id']}", None),
        ("PATCH", f"/api/tickets/{ticket['id']}", {"title": "Mine now"}),
        ("DELETE", f"/api/tickets/{ticket['id']}", None),
        ("GET", f"/api/tickets/{ticket['id']}/comments", None),
        ("POST", f"/api/tickets/{ticket['id']}/comments", {"content": "Hello"}),
        ("GET", f"/api/tickets/{ticket['id']}/attachments", None),
        ("GET", f"/api/comments/{comment['id']}", None),
        ("PATCH", f"/api/comments/{comment['id']}", {"content": "Hello"}),
        ("DELETE", f"/api/comments/{comment['id']}", None),
        ("GET", f"/api/attachments/{attachment['id']}", None),
        ("GET", f"/api/attachments/{attachment['id']}/download", None),
        ("PATCH", f"/api/attachments/{attachment['id']}", {"filename": "yours.png"}),
        ("DELETE", f"/api/attachments/{attachment['id']}", None),
    ):
        stranger.refused(method, path, 404, json=body)
    assert ticket["id"] not in [found["id"] for found in stranger.pages("/api/tickets")]
    assert comment["id"] not in [found["id"] for found in stranger.pages("/api/comments")]
    assert people.customer.api.ticket(ticket["id"])["title"] == ticket["title"]
    assert people.customer.api.comment(comment["id"])["content"] == "Mine alone."


def test_an_internal_note_never_reaches_the_requester(cast: People, ticket: Entity) -> None:
    customer, colleague = cast.customer, cast.colleague
    customer.socket.join(f"ticket:{ticket['id']}")
    note = colleague.api.comment_on(ticket["id"], "Watch out, a known arsonist.", is_internal=True)
    colleague.api.change_comment(note["id"], "Watch out, a well-known arsonist.")
    answer = colleague.api.comment_on(ticket["id"], "We will look into it.")
    colleague.api.delete_comment(note["id"])

    customer.marker()
    customer.told("comment_on_ticket", answer["id"], customer.api.comment(answer["id"]))
    assert not customer.mentions(note["id"])
    assert not customer.mentions("arsonist")
    assert note["id"] not in [found["id"] for found in customer.api.comments(ticket["id"])]
    customer.api.refused("GET", f"/api/comments/{note['id']}", 404)
    body = {"content": "And what about this?", "parent_id": note["id"]}
    customer.api.refused("POST", f"/api/tickets/{ticket['id']}/comments", (400, 404), json=body)


def test_a_customer_cannot_write_an_internal_note(people: People, ticket: Entity) -> None:
    body = {"content": "Between us", "is_internal": True}
    response = people.customer.api.send("POST", f"/api/tickets/{ticket['id']}/comments", json=body)
    assert response.status_code in (400, 403) or response.json().get("is_internal", False) is False


def test_a_draft_never_reaches_a_customer(cast: People) -> None:
    article = cast.agent.api.write_article("Half-baked thoughts")
    cast.agent.api.change_article(article["id"], body="More of them.")
    cast.customer.marker()
    assert not cast.customer.mentions(article["id"])
    cast.customer.api.refused("GET", f"/api/kb/articles/{article['id']}", 404)
    assert article["id"] not in [found["id"] for found in cast.customer.api.pages("/api/kb/articles")]


def test_users_and_their_events_are_for_admins(cast: People) -> None:
    for person in (cast.customer, cast.agent):
        check_refusal(person.socket.ask("join", room="users"))
        person.api.refused("GET", "/api/users", 403)
        person.api.refused("POST", "/api/users", 403, json={"username": "x"})
    user = cast.admin.api.create_user("private-person")
    for person in (cast.customer, cast.agent):
        person.marker()
        assert not person.mentions(user["id"])


def test_a_person_cannot_read_the_notifications_of_another(people: People, ticket: Entity) -> None:
    comment = people.agent.api.comment_on(ticket["id"], "For you only.")
    [record] = people.customer.api.notifications("comment_on_ticket", comment["id"])
    people.stranger.api.refused("POST", f"/api/notifications/{record['id']}/read", 404)
    [record] = people.customer.api.notifications("comment_on_ticket", comment["id"])
    assert not record.get("read_at")


def test_a_person_cannot_touch_the_webhook_endpoint_of_another(cast: People) -> None:
    assert cast.customer.secret
    endpoint = cast.customer.api.endpoint(cast.customer.receiver.url("customer"))
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/check"),
        ("POST", "/rotate-secret"),
        ("GET", "/deliveries"),
    ):
        cast.stranger.api.refused(method, f"/api/webhook-endpoints/{endpoint['id']}{path}", 404, json={})
    assert cast.customer.secret not in str(cast.admin.api.get(f"/api/webhook-endpoints/{endpoint['id']}"))


def test_nobody_gets_in_without_a_token(system: System, driver: SocketIoDriver) -> None:
    nobody = Api(system.base)
    for path in (
        "tickets",
        "comments",
        "notifications",
        "events",
        "users",
        "users/me",
        "users/me/webhook",
        "webhook-endpoints",
    ):
        nobody.refused("GET", f"/api/{path}", 401)
    nobody.close()
    with driver.open(system.base) as client:
        assert client.refused()["message"]
    with PlainClient(system.base) as client:
        client.send({"type": "join", "id": 1, "room": "tickets"})
        code, reason = client.closed()
        assert code == 4401
        assert reason
        assert not client.events()


@pytest.mark.parametrize("kind", ["expired", "forged", "garbage", "refresh"])
def test_a_token_that_does_not_hold_opens_nothing(
    people: People, system: System, driver: SocketIoDriver, forge: Forge, kind: str
) -> None:
    token = {
        "expired": lambda: forge.expired(people.customer.token),
        "forged": lambda: forge.forged(people.customer.token),
        "garbage": lambda: "not-a-token",
        "refresh": lambda: forge.refresh(people.customer.token),
    }[kind]()
    api = Api(system.base, token)
    api.refused("GET", "/api/tickets", 401)
    api.close()
    with driver.open(system.base, auth={"token": token}) as client:
        assert client.refused()["message"]
    with PlainClient(system.base, token) as client:
        assert client.closed()[0] == 4401
    with PlainClient(system.base) as client:
        client.send({"type": "auth", "token": token})
        code, reason = client.closed()
        assert (code, bool(reason)) == (4401, True)


def test_the_end_of_the_token_ends_the_connection(
    cast: People, system: System, driver: SocketIoDriver, forge: Forge, ticket: Entity
) -> None:
    short = forge.expiring(cast.customer.token, seconds=4)
    with (
        driver.open(system.base, auth={"token": short}, reconnection=False) as stock,
        PlainClient(system.base, short) as plain,
    ):
        stock.connected()
        stock.join("comments")
        plain.join("comments")
        stock.disconnected()
        assert plain.closed()[0] == 4401
        comment = cast.agent.api.comment_on(ticket["id"], "You should not hear this.")
        cast.customer.socket.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
        assert comment["id"] not in str([*stock.events(), *plain.events()])


def test_a_new_token_keeps_the_connection(
    cast: People, system: System, driver: SocketIoDriver, forge: Forge, ticket: Entity
) -> None:
    """The short token has ended once a second connection opened with the same one is closed."""
    short = forge.expiring(cast.customer.token, seconds=4)
    with (
        driver.open(system.base, auth={"token": short}, reconnection=False) as extended,
        driver.open(system.base, auth={"token": short}, reconnection=False) as left_alone,
    ):
        extended.connected()
        left_alone.connected()
        assert extended.ask("auth", token=cast.customer.token)["ok"] is True
        extended.join("comments")
        left_alone.disconnected()
        comment = cast.agent.api.comment_on(ticket["id"], "Still there?")
        extended.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")


def test_deactivation_ends_everything_at_once(cast: People, system: System, driver: SocketIoDriver) -> None:
    user = cast.admin.api.create_user("leaver")
    leaver = Api(system.base).sign_in("leaver", NEW_PASSWORD)
    with driver.open(system.base, auth={"token": leaver.access}, reconnection=False) as client:
        client.connected()
        cast.admin.api.deactivate(user["id"])
        client.disconnected()
    leaver.refused("GET", "/api/tickets", 401)
    with driver.open(system.base, auth={"token": leaver.access}, reconnection=False) as client:
        assert client.refused()["message"]
    leaver.close()


def browser_session(base: str, username: str, password: str) -> str:
    """The cookies of a browser that signed in."""
    browser = Api(base)
    browser.ask("GET", "/api/auth/session")
    headers = {"X-CSRFToken": browser.session.cookies["csrftoken"], "Origin": base}
    browser.ask("POST", "/api/auth/session", {"username": username, "password": password}, headers=headers)
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.session.cookies)
    browser.close()
    return cookies


def test_the_cookie_opens_both_doors_to_our_own_pages_only(
    cast: People, system: System, driver: SocketIoDriver, ticket: Entity
) -> None:
    cookie = browser_session(system.base, cast.customer.username, cast.customer.password)
    for options in ({}, {"transports": ["websocket"]}):
        own = {"Cookie": cookie, "Origin": system.base}
        with driver.open(system.base, extraHeaders=own, **options) as client:
            client.connected()
        foreign = {"Cookie": cookie, "Origin": "https://evil.example"}
        with driver.open(system.base, extraHeaders=foreign, reconnection=False, **options) as client:
            assert client.refused()["message"]
            comment = cast.agent.api.comment_on(ticket["id"], "Not for evil.")
            cast.customer.socket.event("comment.update", lambda it, id=comment["id"]: it["data"]["id"] == id, "created")
            assert not client.events()

    with PlainClient(system.base, headers={"Cookie": cookie}, origin=system.base) as client:
        client.join("comments")
        comment = cast.agent.api.comment_on(ticket["id"], "For the customer.")
        client.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
    with PlainClient(system.base, headers={"Cookie": cookie}, origin="https://evil.example") as client:
        code, reason = client.closed()
        assert (code, bool(reason)) == (4401, True)
        assert not client.events()


def test_a_session_needs_csrf_where_it_writes(people: People, system: System) -> None:
    cookie = browser_session(system.base, people.customer.username, people.customer.password)
    nobody = Api(system.base)
    nobody.refused("POST", "/api/tickets", 403, json={"title": "Forged"}, headers={"Cookie": cookie})
    assert "Forged" not in [ticket["title"] for ticket in people.customer.api.pages("/api/tickets")]
    nobody.close()


def test_the_internal_receiver_takes_no_forged_webhook(cast: People, system: System) -> None:
    body = {
        "event": "notification.created",
        "notification": {
            "id": "018f0000-0000-7000-8000-000000000000",
            "type": "comment_on_ticket",
            "message": "You have won",
            "related_id": "018f0000-0000-7000-8000-000000000001",
            "related_type": "comment",
            "created_at": "2025-11-17T12:00:00.000000Z",
        },
        "data": {},
    }
    nobody = Api(system.base)
    for path in ("/api/notifications/webhooks/notifications", "/api/webhooks/notifications"):
        nobody.refused("POST", path, (400, 401, 403), json=body)
        signed = {"webhook-id": "msg_1", "webhook-timestamp": "1614265330", "webhook-signature": "v1,AAAA"}
        nobody.refused("POST", path, (400, 401, 403), json=body, headers=signed)
    nobody.close()
    for person in cast:
        person.marker()
        assert not person.mentions("You have won")
