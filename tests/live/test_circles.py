"""Webhooks that cause what causes them: whatever the integrator does, it comes to rest, and the state says why."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.documentation.pages import Page

from .api import NEW_PASSWORD, Api, Entity
from .inbox import eventually
from .receivers import ScriptedReceiver, respond
from .system import System, installation

pytestmark = pytest.mark.live

LIMIT = 8


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One of its own: the shared one knows no limit."""
    with installation(tmp_path_factory.mktemp("circles")) as system:
        system.environment["WEBHOOK_LOOP_LIMIT"] = str(LIMIT)
        system.start()
        yield system
        system.stop()
        assert system.trouble() == ""


@pytest.fixture(scope="module")
def admin(system: System) -> Iterator[Api]:
    admin = Api(system.base).sign_in("admin")
    yield admin
    admin.close()


class Circle:
    """A customer with an endpoint, and an integrator behind it that answers each webhook with a comment as an agent."""

    def __init__(self, system: System, admin: Api, name: str, receiver: ScriptedReceiver) -> None:
        admin.create_user(name)
        self.customer = Api(system.base).sign_in(name, NEW_PASSWORD)
        self.ticket = self.customer.open_ticket("Round and round")
        self.customer.set_webhook(receiver.url)
        self.endpoint = self.customer.endpoint(receiver.url)["id"]

    def begin(self, api: Api) -> Entity:
        return api.comment_on(self.ticket["id"], "Off we go")

    def at_rest(self) -> list[Entity]:
        """All deliveries, once there is nothing to do and nothing more comes."""

        def look() -> list[Entity] | None:
            before = self.customer.deliveries(self.endpoint)
            if not before or {delivery["state"] for delivery in before} - {"delivered", "looped"}:
                return None
            time.sleep(1)
            return before if self.customer.deliveries(self.endpoint) == before else None

        return eventually(look, "the circle at rest", timeout=60)


def integrator(react: Any) -> ScriptedReceiver:
    """Does its work before it answers, as simple integrators do."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        message = receiver.inbox.one(lambda it: it["headers"]["webhook-id"] == headers["webhook-id"], "its own request")
        react(message["payload"], headers)
        respond(handler, 200)

    receiver = ScriptedReceiver(behave)
    return receiver


def test_one_that_sends_the_header_along(system: System, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one of the documentation."""
    agent = Api(system.base).sign_in("agent")
    monkeypatch.setenv("HELPDESK", system.base)
    monkeypatch.setenv("TOKEN", agent.access)
    code: dict[str, Any] = {}
    exec(Page("docs/webhooks.md").snippet("circles"), code)
    with integrator(code["answer"]) as receiver:
        circle = Circle(system, admin, "echoing", receiver)
        circle.begin(agent)
        stopped, sent = circle.at_rest()
        assert (sent["state"], stopped["state"]) == ("delivered", "looped")
        first = receiver.arrival()["headers"]["webhook-id"]
        assert stopped["state_reason"] == f"It was caused by {first}, which this endpoint got about the same ticket."
        # Redelivered by hand it arrives, and its own consequences are stopped again.
        circle.customer.redeliver(stopped["id"])
        receiver.arrival(2)
        states = [delivery["state"] for delivery in circle.at_rest()]
        assert states == ["looped", "delivered", "delivered"]
        ended = 'helpdesk_webhook_deliveries_ended_total{outcome="looped"}'
        eventually(lambda: metric(admin, ended) >= 2, "the stopped ones counted")
    agent.close()
    circle.customer.close()


def test_one_that_does_not(system: System, admin: Api) -> None:
    agent = Api(system.base).sign_in("agent")

    def answer(webhook: Entity, headers: dict[str, str]) -> None:
        agent.comment_on(webhook["data"]["ticket_id"], "Thank you!")

    with integrator(answer) as receiver:
        circle = Circle(system, admin, "silent", receiver)
        circle.begin(agent)
        stopped, *sent = circle.at_rest()
        assert stopped["state"] == "looped"
        assert {delivery["state"] for delivery in sent} == {"delivered"}
        # Arrivals are written down ten times a second: the rounds that it makes meanwhile are counted later.
        assert LIMIT <= len(sent) < 2 * LIMIT
        assert "webhooks about the same ticket arrived" in stopped["state_reason"]
        # Another person is heard at once.
        before = len(receiver.inbox.all())
        admin.comment_on(circle.ticket["id"], "What is going on here?")
        receiver.arrival(before + 1)
    agent.close()
    circle.customer.close()


def metric(admin: Api, sample: str) -> float:
    text = admin.send("GET", "/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith(sample)).split()[-1])
