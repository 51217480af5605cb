"""Nothing too much: role × room × event × door × moment, and the feed beside the doors.

Each case is a right that somebody has, loses and wins back while their connections are open. What they are told before,
at and after is what `visible_to` says at that moment, at both doors and in `/api/events`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from channels.db import database_sync_to_async
from rest_framework.test import APIClient

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from knowledge.models import Article, ArticleStatus
from notifications.sockets.replay import last_position
from tickets.models import Attachment, Ticket

from .changes import all_told, do, published
from .clients import token_of

NAMES = {
    "ticket": "ticket.update",
    "comment": "comment.update",
    "attachment": "attachment.update",
    "kb": "kb.update",
    "user": "user.update",
}
ROOMS = {
    "ticket": ("tickets", "ticket"),
    "comment": ("comments", "ticket"),
    "attachment": ("attachments", "tickets", "ticket"),
}
WITHOUT_A_ROOM = ("kb", "user")


@dataclass
class Scene:
    """A ticket with a comment and a file, an article, and somebody who would like to know."""

    person: User
    elsewhere: User
    ticket: Ticket
    comment: Comment
    attachment: Attachment
    article: Article
    role: str

    def things(self) -> dict[str, Any]:
        return {
            "ticket": self.ticket,
            "comment": self.comment,
            "attachment": self.attachment,
            "kb": self.article,
            "user": self.elsewhere,
        }

    def touch(self, kind: str, number: int) -> None:
        """Change something about it that is news and no question of rights."""
        thing = self.things()[kind]
        thing.refresh_from_db()
        if kind in ("comment", "attachment"):
            thing.ticket = Ticket.objects.get(pk=self.ticket.pk)
        field, value = {
            "ticket": ("title", f"Title {number}"),
            "comment": ("content", f"Content {number}"),
            "attachment": ("filename", f"{number}.png"),
            "kb": ("title", f"How {number}"),
            "user": ("name", f"Person {number}"),
        }[kind]
        setattr(thing, field, value)
        thing.save()

    def sees(self, kind: str) -> bool:
        """By the API's own rule."""
        person = User.objects.get(pk=self.person.pk)
        return type(self.things()[kind])._default_manager.visible_to(person).filter(pk=self.things()[kind].pk).exists()


def _set(thing: Any, **fields: Any) -> None:
    thing.refresh_from_db()
    for name, value in fields.items():
        setattr(thing, name, value)
    thing.save()


def _move(scene: Scene, away: bool) -> None:
    _set(scene.ticket, requester=scene.elsewhere if away else scene.person)


def _withdraw(scene: Scene, away: bool) -> None:
    _set(scene.article, status=ArticleStatus.DRAFT if away else ArticleStatus.PUBLISHED)


def _turn_comment(scene: Scene, away: bool) -> None:
    _set(scene.comment, is_internal=away)


def _turn_file(scene: Scene, away: bool) -> None:
    _set(scene.attachment, is_internal=away)


def _assign(scene: Scene, away: bool) -> None:
    """Nobody's rights hang on who is assigned."""
    _set(scene.ticket, assignee=User.objects.get(username="agent") if away else None)


def _demote(scene: Scene, away: bool) -> None:
    """Only staff loses anything by it; the requester is a customer already."""
    _set(scene.person, role=Role.CUSTOMER if away else scene.role)


REVOCATIONS: dict[str, Callable[[Scene, bool], None]] = {
    "moved": _move,
    "withdrawn": _withdraw,
    "comment turned internal": _turn_comment,
    "file turned internal": _turn_file,
    "assigned": _assign,
    "role": _demote,
}


@pytest.fixture
def scene(ticket, comment, article, other_customer, agent, make_user) -> Callable[[str], Scene]:
    def make(role: str) -> Scene:
        person = ticket.requester if role == Role.CUSTOMER else make_user("watching", role)
        file = Attachment(
            ticket=ticket, file="x/y.png", filename="y.png", content_type="image/png", size=4, uploaded_by=agent
        )
        file.save()
        return Scene(person, other_customer, ticket, comment, file, article, role)

    return make


def feed(person: User, after: int) -> list[tuple[str, str, int]]:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(person)}")
    response = client.get("/api/events", {"after": after})
    assert response.status_code == 200, response.content
    return [(it["event"], it.get("action", ""), it["cursor"]) for it in json.loads(response.content)["results"]]


async def everywhere(made: Scene, plain: Any, stock: Any, token: str) -> dict[tuple[str, str], Any]:
    """A client of the person at each door for each room that they may join."""
    clients = {}
    for room in ("tickets", "comments", "attachments", "kb", "users", "ticket"):
        if room == "users" and made.role != Role.ADMIN:
            continue
        for door, client in (("plain", plain(token)), ("socketio", stock({"token": token}))):
            clients[door, room] = await client.open()
            answer = await client.ask("join", room=f"ticket:{made.ticket.pk}" if room == "ticket" else room)
            assert answer["ok"] is True, answer
    return clients


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("is_internal", [False, True])
async def test_a_deletion_is_told_to_whoever_saw_the_thing(scene, plain, stock, role, is_internal):
    made = await do(scene, role)
    for thing in (made.comment, made.attachment):
        await do(_set, thing, is_internal=is_internal)
    token = await database_sync_to_async(token_of)(made.person)
    clients = await everywhere(made, plain, stock, token)
    for kind in ("comment", "attachment", "kb", "ticket"):
        saw = await database_sync_to_async(made.sees)(kind)
        assert saw == (role != Role.CUSTOMER or kind in ("kb", "ticket") or not is_internal)
        await do(made.things()[kind].delete)
        for (door, room), heard in zip(clients, await all_told(clients.values()), strict=True):
            told = [(name, payload["action"]) for name, payload in heard if name in NAMES.values()]
            expected = saw and (kind in WITHOUT_A_ROOM or room in ROOMS[kind])
            assert told == ([(NAMES[kind], "deleted")] if expected else []), (kind, door, room)


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("revocation", REVOCATIONS)
async def test_every_event_is_told_by_the_rights_of_its_moment(scene, plain, stock, role, revocation):
    made = await do(scene, role)
    await published()
    revoke = REVOCATIONS[revocation]
    token = await database_sync_to_async(token_of)(made.person)
    clients = await everywhere(made, plain, stock, token)
    for moment, away in (("before", None), ("at", True), ("after", None), ("won back", False)):
        start = await database_sync_to_async(last_position)()
        sight_before = await database_sync_to_async(lambda: {kind: made.sees(kind) for kind in NAMES})()
        if away is None:
            for number, kind in enumerate(NAMES):
                await do(made.touch, kind, number if moment == "before" else number + len(moment) * 10)
        else:
            await do(revoke, made, away)
        sight = await database_sync_to_async(lambda: {kind: made.sees(kind) for kind in NAMES})()
        answers = {}
        for (door, room), heard in zip(clients, await all_told(clients.values()), strict=True):
            events = [
                (name, payload.get("action", ""), payload["cursor"])
                for name, payload in heard
                if name in NAMES.values()
            ]
            answers[door, room] = events
            for kind, name in NAMES.items():
                actions = [action for found, action, _cursor in events if found == name]
                in_room = kind in WITHOUT_A_ROOM or room in ROOMS[kind]
                if away is None:
                    expected = ["updated"] if sight[kind] and in_room else []
                else:
                    expected = _expected_of_a_revocation(revocation, kind, sight_before, sight) if in_room else []
                assert actions == expected, (moment, door, room, kind)
        for room in {room for _door, room in clients}:
            assert answers["plain", room] == answers["socketio", room]
        # The feed tells all rooms at once, and afterwards: of what is out of sight by now, only what took it away.
        everything = {event for events in answers.values() for event in events}
        shown_by_feed = {it for it in await database_sync_to_async(feed)(made.person, start) if it[0] in NAMES.values()}
        assert {it for it in shown_by_feed if it[2] <= max((it[2] for it in everything), default=start)} == everything


def _expected_of_a_revocation(revocation: str, kind: str, before: dict[str, bool], after: dict[str, bool]) -> list[str]:
    """What the change of rights itself is told as, of what was changed by it; of others nothing is told."""
    changed = {
        "moved": ("ticket", "comment", "attachment"),
        "assigned": ("ticket",),
        "withdrawn": ("kb",),
        "comment turned internal": ("comment",),
        "file turned internal": ("attachment",),
    }.get(revocation, ())
    if kind == "user":  # that of the person whose role is another one; administrators see it, those of now
        return ["updated"] if revocation == "role" and after[kind] and not before[kind] else []
    if kind not in changed or not (before[kind] or after[kind]):
        return []
    if revocation == "moved" and kind != "ticket" and before[kind] and after[kind]:
        return []  # it went along, and nothing has changed for who sees both
    return ["updated" if before[kind] and after[kind] else "removed" if before[kind] else "created"]
