"""`kill -9` of the whole installation at three bad moments; after a start, what was confirmed has been told.

The moments: with requests on their way (some committed, some not), right after the API's confirmation (committed,
nothing delivered), and while the receiver has the webhook but has not answered. One story, read from several sides.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from .api import Api, Entity
from .contract import check_webhook
from .inbox import eventually
from .people import People, gather
from .receivers import ExpressReceiver
from .sockets import SocketIoDriver
from .system import System, installation

pytestmark = pytest.mark.live

RECOVERY = 120.0
"""Seconds for a delivery whose sender was killed: its lease must run out first (the deadline and 30 s more)."""


@dataclass
class Story:
    """What happened, and the people to ask about it afterwards."""

    system: System
    people: People
    ticket: Entity
    secret: str
    cursor: object
    confirmed: list[str] = field(default_factory=list)
    """Ids of the comments the API answered 201 for."""


def write_until_killed(story: Story, name: str) -> None:
    """Comment as fast as it goes; ends with the connection."""
    api = Api(story.system.base, story.people.agent.token)
    try:
        for number in range(10_000):
            story.confirmed.append(api.comment_on(story.ticket["id"], f"{name} {number}")["id"])
    except requests.RequestException:
        pass
    finally:
        api.close()


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, receiver: ExpressReceiver, driver: SocketIoDriver
) -> Iterator[Story]:
    with installation(tmp_path_factory.mktemp("kill")) as system:
        system.start()
        people = gather(system.base, lambda: receiver, lambda: driver)
        ticket = people.customer.api.open_ticket("Kill me")
        secret = people.customer.api.set_webhook(receiver.url("survivor"))["secret"]
        first = people.agent.api.comment_on(ticket["id"], "Before it all")["id"]
        cursor = eventually(lambda: people.customer.api.feed(), "the feed has begun")[-1]["cursor"]
        story = Story(system, people, ticket, secret, cursor)

        # With requests on their way: two writers are somewhere between sending and reading the answer.
        writers = [threading.Thread(target=write_until_killed, args=(story, name)) for name in ("one", "two")]
        for writer in writers:
            writer.start()
        eventually(lambda: len(story.confirmed) >= 12, "twelve comments confirmed")
        system.kill()
        for writer in writers:
            writer.join()
        system.start()

        # Right after the confirmation.
        for number in range(3):
            story.confirmed.append(people.agent.api.comment_on(ticket["id"], f"Confirmed {number}")["id"])
        system.kill()
        system.start()

        # While the receiver keeps the answer back. The new worker knows by now that it answers: of a receiver that it
        # does not know, two at a time are out, and the held one might wait behind others.
        awake = people.agent.api.comment_on(ticket["id"], "Awake")["id"]
        story.confirmed.append(awake)
        receiver.request("survivor", lambda body: body["notification"]["related_id"] == awake, "the one before it")
        receiver.hold()
        held = people.agent.api.comment_on(ticket["id"], "Held")["id"]
        story.confirmed.append(held)
        receiver.request("survivor", lambda body: body["notification"]["related_id"] == held, "the held one")
        system.kill()
        receiver.release()
        system.start()

        story.confirmed.append(people.agent.api.comment_on(ticket["id"], "After it all")["id"])
        assert first
        yield story
        for person in people:
            person.api.close()
        assert system.trouble() == ""


def comments_of(story: Story) -> list[str]:
    """Ids of every comment there is, confirmed or not: what was committed must have been told."""
    return [comment["id"] for comment in story.people.customer.api.comments(story.ticket["id"])]


def test_what_was_confirmed_is_there(story: Story) -> None:
    assert set(story.confirmed) <= set(comments_of(story))


def test_every_comment_has_its_notification_once(story: Story) -> None:
    told = [record["related_id"] for record in story.people.customer.api.notifications("comment_on_ticket")]
    ours = [id for id in told if id in set(comments_of(story))]
    assert sorted(ours) == sorted(comments_of(story))


def test_every_webhook_arrives_under_one_id(story: Story, receiver: ExpressReceiver) -> None:
    expected = set(comments_of(story))
    arrived: dict[str, list[Entity]] = defaultdict(list)

    def all_there() -> bool:
        arrived.clear()
        for request in receiver.requests("survivor"):
            arrived[request["payload"]["notification"]["related_id"]].append(request)
        return expected <= set(arrived)

    eventually(all_there, "a webhook for every comment", timeout=RECOVERY)
    ids = {}
    for comment, requests_of_it in arrived.items():
        assert len({request["headers"]["webhook-id"] for request in requests_of_it}) == 1, "stable over every attempt"
        assert len({request["body"] for request in requests_of_it}) == 1, "the same bytes in every attempt"
        ids[comment] = requests_of_it[0]["headers"]["webhook-id"]
    assert len(set(ids.values())) == len(ids)
    for id in story.confirmed[:3] + story.confirmed[-3:]:
        [record] = story.people.customer.api.notifications("comment_on_ticket", id)
        head = json.loads(arrived[id][-1]["body"])["notification"]
        assert head.items() <= record.items()
        check_webhook(arrived[id][-1], story.secret, head, story.people.customer.api.comment(id))


def test_the_held_one_is_delivered_in_the_end(story: Story) -> None:
    """Its sender died without an answer: it is sent again, and no delivery stays behind as `sending`."""
    api = story.people.customer.api
    endpoint = next(iter(api.pages("/api/webhook-endpoints")))["id"]
    eventually(
        lambda: {delivery["state"] for delivery in api.deliveries(endpoint)} == {"delivered"},
        "every delivery delivered",
        timeout=RECOVERY,
    )


def test_the_feed_has_every_event_once_and_in_order(story: Story) -> None:
    expected = comments_of(story)

    def created() -> list[Entity]:
        return [
            event
            for event in story.people.customer.api.feed(after=story.cursor)
            if event["data"]["id"] in set(expected)
        ]

    eventually(lambda: len(created()) >= len(expected) - 1, "every comment in the feed")
    feed = story.people.customer.api.feed()
    cursors = [event["cursor"] for event in feed]
    assert cursors == sorted(cursors)
    told = [(event["cursor"], event["event"]) for event in feed]
    assert len(told) == len(set(told)), "an event name and cursor never repeat"
    events = [event["data"]["id"] for event in feed if event["event"] == "comment.update"]
    of_them = [comment for comment in events if comment in set(expected)]  # the demo data has some of its own
    assert sorted(of_them) == sorted(expected), "each comment once"
    for at in (0, len(feed) // 3, len(feed) - 2):
        rest = story.people.customer.api.feed(after=cursors[at])
        assert [event["cursor"] for event in rest] == [cursor for cursor in cursors if cursor > cursors[at]]


def test_a_socket_that_comes_back_hears_all_it_missed(story: Story, driver: SocketIoDriver) -> None:
    expected = set(comments_of(story))
    with driver.open(story.system.base, auth={"token": story.people.customer.token}) as client:
        client.connected()
        assert client.ask("join", room="comments", after=story.cursor)["ok"] is True
        client.event("comment.update", lambda it: it["data"]["id"] == story.confirmed[-1], "the last comment")
        heard = [payload["data"]["id"] for payload in client.events("comment.update")]
        assert len(set(heard)) == len(heard)
        assert set(story.confirmed) <= set(heard) <= expected
