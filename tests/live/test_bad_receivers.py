"""Receivers as they are: down, slow, redirecting, talking nonsense. Nothing is lost, and the reason can be read."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from .api import NEW_PASSWORD, Api, Entity
from .contract import check_record, check_secret, check_webhook
from .inbox import eventually
from .people import People
from .receivers import ScriptedReceiver, babble, drip_body, drip_headers, respond
from .system import System

pytestmark = pytest.mark.live

DEADLINE = 15.0
"""Seconds a whole attempt may take, slow headers and slow bodies included."""


class Owner:
    """A customer of their own for every test, so that one test's receiver opens no breaker for another's."""

    def __init__(self, people: People, system: System, name: str) -> None:
        self.id = people.admin.api.create_user(name)["id"]
        self.api = Api(system.base).sign_in(name, NEW_PASSWORD)
        self.ticket = self.api.open_ticket("Nothing arrives")
        self._agent = people.agent.api

    def hook(self, url: str) -> str:
        """Set the webhook and give its secret."""
        secret = self.api.set_webhook(url)["secret"]
        check_secret(secret)
        self.endpoint = self.api.endpoint(url)["id"]
        return secret

    def comment(self) -> Entity:
        """Somebody answers, and with that one delivery is due."""
        return self._agent.comment_on(self.ticket["id"], "Now?")

    def delivery(self, matches: Callable[[Entity], bool], what: str, timeout: float = 30.0) -> Entity:
        """The one delivery of this owner, with its attempts, once it matches."""

        def look() -> Entity | None:
            [delivery] = self.api.deliveries(self.endpoint)
            delivery = self.api.delivery(delivery["id"])
            return delivery if matches(delivery) else None

        return eventually(look, what, timeout=timeout)


@pytest.fixture
def owner(people: People, system: System, request: pytest.FixtureRequest) -> Iterator[Owner]:
    names = (character if character.isalnum() else "-" for character in request.node.name.lower())
    owner = Owner(people, system, "".join(names)[-60:].strip("-"))
    yield owner
    owner.api.close()


def failed(delivery: Entity) -> bool:
    """An attempt was made, is over, and did not succeed."""
    return delivery["state"] == "retrying" and bool(delivery["attempts"])


def reason(delivery: Entity) -> str:
    """The plain-language reason of the first attempt."""
    attempt = min(delivery["attempts"], key=lambda attempt: attempt["number"])
    assert attempt["succeeded"] is False, attempt
    assert attempt["diagnosis"], attempt
    return attempt["diagnosis"]


def redirect(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, 302, Location=f"http://127.0.0.1:{handler.server.server_address[1]}/elsewhere")


BEHAVIOURS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
    "redirecting": (redirect, "redirect"),
    "permanently redirecting": (
        lambda handler: respond(
            handler, 308, Location=f"http://127.0.0.1:{handler.server.server_address[1]}/elsewhere"
        ),
        "redirect",
    ),
    "failing": (lambda handler: respond(handler, 500, b"<h1>Oops</h1>"), "500"),
    "not found": (lambda handler: respond(handler, 404), "404"),
    "refusing": (lambda handler: respond(handler, 401), "401"),
    "babbling": (babble, ""),
    "hanging up": (lambda handler: setattr(handler, "close_connection", True), ""),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_bad_answer_is_recorded_and_made_up_for(owner: Owner, behaviour: str) -> None:
    behave, word = BEHAVIOURS[behaviour]
    with ScriptedReceiver(behave) as receiver:
        secret = owner.hook(receiver.url)
        comment = owner.comment()
        first = receiver.arrival()
        delivery = owner.delivery(failed, f"the failed attempt at a receiver that is {behaviour}")
        assert word.lower() in reason(delivery).lower()
        assert "Traceback" not in reason(delivery)

        receiver.behave = lambda handler: respond(handler, 200)
        owner.api.redeliver(delivery["id"])
        delivery = owner.delivery(lambda it: it["state"] == "delivered", "delivered at last")
        last = receiver.arrival(count=2)
        [record] = owner.api.notifications("comment_on_ticket", comment["id"])
        head = check_record(record, "comment_on_ticket", comment["id"])
        check_webhook(last, secret, head, owner.api.comment(comment["id"]))
        assert last["headers"]["webhook-id"] == first["headers"]["webhook-id"]
        assert last["body"] == first["body"], "a retry sends the same bytes"
        assert {message["path"] for message in receiver.inbox.all()} == {"/hook"}, "a redirect is never followed"


def test_a_receiver_that_is_down_gets_it_when_it_is_up(owner: Owner) -> None:
    """The second attempt comes by itself, some five seconds after the first."""
    with ScriptedReceiver() as receiver:
        secret = owner.hook(receiver.url)
        receiver.down()
        comment = owner.comment()
        delivery = owner.delivery(failed, "the attempt at a closed port")
        assert "refused" in reason(delivery).lower()
        receiver.up()
        arrived = receiver.arrival()
        [record] = owner.api.notifications("comment_on_ticket", comment["id"])
        check_webhook(
            arrived, secret, check_record(record, "comment_on_ticket", comment["id"]), owner.api.comment(comment["id"])
        )
        delivery = owner.delivery(lambda it: it["state"] == "delivered", "delivered")
        assert len(delivery["attempts"]) >= 2


def test_a_slow_receiver_is_given_up_on_and_holds_nobody_up(owner: Owner, people: People, system: System) -> None:
    """Drops of header and drops of body alike: the deadline covers the whole attempt, not one read."""
    slow = Owner(people, system, "slow-body-owner")
    with (
        ScriptedReceiver(lambda handler: drip_headers(handler, seconds=25)) as headers,
        ScriptedReceiver(lambda handler: drip_body(handler, seconds=25)) as body,
        ScriptedReceiver() as healthy,
    ):
        owner.hook(headers.url)
        slow.hook(body.url)
        owner.comment()
        slow.comment()
        headers.arrival()
        body.arrival()
        quick = Owner(people, system, "quick-owner")
        quick.hook(healthy.url)
        quick.comment()
        healthy.arrival()
        quick.delivery(lambda it: it["state"] == "delivered", "the healthy one, while the slow ones hang")
        for hanging in (owner, slow):
            assert hanging.delivery(lambda it: True, "there")["state"] == "sending"
        for hanging in (owner, slow):
            delivery = hanging.delivery(failed, "given up on", timeout=DEADLINE + 15)
            assert any(word in reason(delivery).lower() for word in ("within", "time", "deadline")), reason(delivery)
    for done in (slow, quick):
        done.api.close()


def test_a_huge_answer_is_a_success_of_which_little_is_kept(owner: Owner) -> None:
    with ScriptedReceiver(lambda handler: respond(handler, 200, b"x" * 3_000_000)) as receiver:
        owner.hook(receiver.url)
        owner.comment()
        delivery = owner.delivery(lambda it: it["state"] == "delivered", "delivered")
        assert len(str(delivery)) < 40_000


def test_410_disables_the_endpoint_and_tells_its_owner(owner: Owner) -> None:
    with ScriptedReceiver(lambda handler: respond(handler, 410)) as receiver:
        owner.hook(receiver.url)
        owner.comment()
        receiver.arrival()
        eventually(lambda: owner.api.endpoint(receiver.url)["state"] == "disabled", "disabled")
        assert "410" in str(owner.api.get(f"/api/webhook-endpoints/{owner.endpoint}"))


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (lambda handler: respond(handler, 503), ("503",)),
        (redirect, ("redirect",)),
        (babble, ()),
    ],
    ids=["unavailable", "redirecting", "babbling"],
)
def test_the_test_button_answers_with_the_attempt_and_a_diagnosis(
    owner: Owner, behave: Any, words: tuple[str, ...]
) -> None:
    with ScriptedReceiver(behave) as receiver:
        owner.hook(receiver.url)
        attempt = owner.api.test_webhook()
        assert attempt["diagnosis"], attempt
        for word in words:
            assert word in attempt["diagnosis"].lower(), attempt
        receiver.behave = lambda handler: respond(handler, 200)
        attempt = owner.api.test_webhook()
        assert attempt["status"] == 200
    attempt = owner.api.test_webhook()
    assert "refused" in attempt["diagnosis"].lower(), attempt


def test_an_address_inside_is_refused_when_connecting(owner: Owner) -> None:
    """A name that leads inside passes when it is saved (names change) and fails when it is used; here, no such name."""
    owner.hook("https://does-not-exist.invalid/hook")
    attempt = owner.api.test_webhook()
    assert attempt["status"] is None
    assert attempt["diagnosis"]


def test_a_rotated_secret_signs_with_old_and_new(owner: Owner) -> None:
    with ScriptedReceiver() as receiver:
        old = owner.hook(receiver.url)
        new = owner.api.ask("POST", f"/api/webhook-endpoints/{owner.endpoint}/rotate-secret")["secret"]
        check_secret(new)
        assert new != old
        comment = owner.comment()
        arrived = receiver.arrival()
        [record] = owner.api.notifications("comment_on_ticket", comment["id"])
        head, data = check_record(record, "comment_on_ticket", comment["id"]), owner.api.comment(comment["id"])
        for secret in (old, new):
            check_webhook(arrived, secret, head, data)
