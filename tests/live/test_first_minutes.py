"""The main job, the way a person meets it: open a ticket, get an answer, and be told in three places at once."""

import pytest
import requests

from .api import NEW_PASSWORD, Api
from .contract import check_secret
from .people import People
from .sockets import PlainClient, SocketIoDriver
from .system import System

pytestmark = pytest.mark.live


def test_the_system_says_that_it_is_alive_and_able_to_serve(system: System) -> None:
    assert requests.get(f"{system.base}/healthz", timeout=10).status_code == 200
    assert requests.get(f"{system.base}/readyz", timeout=10).status_code == 200


def test_the_interface_documents_itself(system: System) -> None:
    schema = requests.get(f"{system.base}/api/schema", params={"format": "json"}, timeout=30).json()
    assert schema["openapi"].startswith("3.")
    for path in ("/api/tickets", "/api/users/me/webhook", "/api/notifications", "/api/events"):
        assert path in schema["paths"], path
    page = requests.get(f"{system.base}/api/docs", timeout=10)
    assert page.status_code == 200
    assert "text/html" in page.headers["Content-Type"]


def test_the_demo_accounts_are_what_their_names_say(people: People) -> None:
    assert [person.profile["role"] for person in (people.admin, people.agent, people.customer)] == [
        "admin",
        "agent",
        "customer",
    ]


def test_a_comment_is_told_as_a_record_as_a_webhook_and_on_both_doors(cast: People, system: System) -> None:
    customer, agent = cast.customer, cast.agent
    ticket = customer.api.open_ticket("I cannot sign in", description="Since this morning, with every browser.")
    assert ticket["status"] == "new"
    assert ticket["requester_id"] == customer.id
    assert ticket["requester"]["id"] == customer.id

    with PlainClient(system.base, customer.token) as plain:
        plain.join("comments")
        comment = agent.api.comment_on(ticket["id"], "We have reset your password. Does it work now?")
        assert comment["ticket_id"] == ticket["id"]
        assert comment["author_id"] == agent.id
        assert comment["author"]["role"] == "agent"

        record = customer.told("comment_on_ticket", comment["id"], customer.api.comment(comment["id"]))
        assert record["message"] == f"New comment on your ticket 'I cannot sign in' by {comment['author']['name']}"

        seen_by_stock = customer.socket.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
        seen_by_plain = plain.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
        assert seen_by_stock["action"] == seen_by_plain["action"] == "created"
        assert seen_by_stock["data"] == seen_by_plain["data"] == customer.api.comment(comment["id"])
        assert seen_by_stock["cursor"] == seen_by_plain["cursor"]


def test_the_answer_of_the_requester_reopens_the_ticket(cast: People) -> None:
    customer, agent = cast.customer, cast.agent
    ticket = customer.api.open_ticket("The invoice is wrong")
    agent.api.change_ticket(ticket["id"], status="pending", assignee_id=agent.id)
    reply = customer.api.comment_on(ticket["id"], "Here is the order number.")
    assert customer.api.ticket(ticket["id"])["status"] == "open"
    agent.told("comment_on_ticket", reply["id"], agent.api.comment(reply["id"]))

    agent.api.change_ticket(ticket["id"], status="closed")
    error = customer.api.refused(
        "POST", f"/api/tickets/{ticket['id']}/comments", 409, json={"content": "One more thing"}
    )
    assert "open a new one" in error["message"]


def test_the_read_state_is_counted(cast: People) -> None:
    customer, agent = cast.customer, cast.agent
    ticket = customer.api.open_ticket("How do I export?")
    comment = agent.api.comment_on(ticket["id"], "In the menu at the top.")
    [record] = customer.api.notifications("comment_on_ticket", comment["id"])
    unread = customer.api.unread()
    customer.api.ask("POST", f"/api/notifications/{record['id']}/read")
    assert customer.api.unread() == unread - 1
    customer.api.ask("POST", "/api/notifications/read-all")
    assert customer.api.unread() == 0


def test_the_feed_tells_the_same_story_in_order(cast: People) -> None:
    customer, agent = cast.customer, cast.agent
    ticket = customer.api.open_ticket("Three answers, please")
    comments = [agent.api.comment_on(ticket["id"], f"Answer {number}") for number in (1, 2, 3)]
    for comment in comments:
        customer.socket.event("comment.update", lambda it, id=comment["id"]: it["data"]["id"] == id, "created")
    feed = customer.api.feed()
    names = [(event["event"], event["cursor"]) for event in feed]
    assert len(set(names)) == len(names), "an event name and a cursor never repeat"
    cursors = [event["cursor"] for event in feed]
    assert cursors == sorted(cursors)
    for name in ("comment.update", "notification"):
        told = [event["data"]["id"] for event in feed if event["event"] == name]
        assert [id for id in told if id in {comment["id"] for comment in comments}] == [
            comment["id"] for comment in comments
        ]
    for middle in (cursors[0], cursors[len(cursors) // 2], cursors[-1]):
        assert customer.api.feed(after=middle) == [event for event in feed if event["cursor"] > middle]


def test_the_webhook_is_set_read_and_removed(people: People) -> None:
    stranger = people.admin.api.create_user("integrator")
    with_api = Api(people.admin.api.base).sign_in("integrator", NEW_PASSWORD)
    assert stranger["username"] == "integrator"
    answer = with_api.set_webhook("https://hooks.example.com/helpdesk")
    check_secret(answer["secret"])
    again = with_api.set_webhook("https://hooks.example.com/helpdesk")
    assert again["webhook_url"] == "https://hooks.example.com/helpdesk"
    assert not again.get("secret"), "the same URL set twice changes nothing"
    for path in ("/api/users/me/webhook", "/api/user/webhook"):
        assert with_api.get(path)["webhook_url"] == "https://hooks.example.com/helpdesk"
        assert not with_api.get(path).get("secret")
    with_api.remove_webhook()
    assert not with_api.get("/api/users/me/webhook")["webhook_url"]
    with_api.close()


def test_a_registered_customer_can_start_at_once(people: People, driver: SocketIoDriver, system: System) -> None:
    anyone = Api(system.base)
    anyone.register("newcomer")
    newcomer = anyone.sign_in("newcomer@example.com", NEW_PASSWORD)
    ticket = newcomer.open_ticket("Hello")
    assert [found["id"] for found in newcomer.pages("/api/tickets")] == [ticket["id"]]
    with driver.open(system.base, auth={"token": newcomer.access}) as client:
        client.connected()
        client.join("comments")
        comment = people.agent.api.comment_on(ticket["id"], "Welcome!")
        client.event("comment.update", lambda it: it["data"]["id"] == comment["id"], "created")
    newcomer.close()
    anyone.close()
