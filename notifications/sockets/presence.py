"""Who looks at a ticket, and who is writing: what passes, and leaves no row.

Looking has a state. Each process knows which of its own connections look at which ticket and announces every change of
that to the staff group; a process with staff connected keeps what the others announced. Whoever opens a ticket is so
told at once who is there already, without asking anybody. A process that has just got its first staff member has kept
nothing yet: it asks once, and each process answers it alone.

An entry ends when its person says so, leaves the ticket's room, disconnects or loses the ticket. If nobody says it (a
process was killed, a lid closed) it ends after `VIEWING_SECONDS`. Durations travel, never times, so that clocks may
differ. A person is there as long as one connection of theirs is, in whatever process.

Who sees it: that somebody looks is told to staff only, so that a customer does not learn which agent opened their
ticket and left again. That somebody writes is told to staff and to the requester, unless it is an internal note.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from notifications.sockets.connection import Connection, in_background
from notifications.sockets.events import StreamEvent
from notifications.sockets.rooms import ticket_of, ticket_room
from notifications.sockets.subscription import Subscription
from notifications.stream import STAFF_GROUP, STREAM_GROUP, user_group

logger = logging.getLogger(__name__)

# How long a sign holds, seconds: whoever still looks or types says so again before that.
TYPING_SECONDS = 6
VIEWING_SECONDS = 60
# How often entries are looked through for those that nobody ended, seconds.
SWEEP_EVERY = 5.0
# Signs in one answer: a message of the layer stays well below a megabyte.
SIGNS_IN_MESSAGE = 500

Message = dict[str, Any]


@dataclass(slots=True)
class _Viewer:
    """Somebody who looks at a ticket: until when, by process (`time.monotonic`)."""

    person: dict[str, str]
    until: dict[str, float] = field(default_factory=dict)


class Presence:
    """One process's part of it; belongs to its hub."""

    def __init__(self, in_room: Callable[[str], Iterable[Connection]]) -> None:
        """`in_room` gives the connections of this process that are in a room."""
        self._in_room = in_room
        self._process = uuid4().hex
        self._subscription: Subscription | None = None
        # Our own connections: who looks at what, and until when.
        self._here: defaultdict[tuple[UUID, UUID], dict[Connection, float]] = defaultdict(dict)  # by (ticket, person)
        self._looking: defaultdict[Connection, set[UUID]] = defaultdict(set)
        # What every process announced, ours included: by ticket and person. Kept while we have staff.
        self._known: dict[str, dict[str, _Viewer]] = {}
        self._has_asked = False
        self._sweeping: asyncio.TimerHandle | None = None
        # One announcement at a time, each of the state as it is then: the last one told is the last one true.
        self._announcing = asyncio.Lock()

    # --- with the hub ------------------------------------------------------------------------------------------------
    async def listen(self, subscription: Subscription) -> None:
        """The groups of this process have changed."""
        self._subscription = subscription
        if not subscription.is_in(STAFF_GROUP):
            self._known.clear()
            self._has_asked = False
        elif not self._has_asked:
            self._has_asked = True
            await self._unless_away(self._ask())

    async def stop(self) -> None:
        """The process ends: none of its connections looks at anything."""
        self._here.clear()
        self._looking.clear()
        self._known.clear()
        self._has_asked = False
        self._announcing = asyncio.Lock()  # it belongs to the event loop that is ending
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        if self._subscription is not None:
            await self._unless_away(self._send(STAFF_GROUP, {"type": "hub.presence_over", "process": self._process}))
        self._subscription = None

    async def handle(self, message: Message) -> None:
        match message["type"]:
            case "hub.typing":
                self._on_typing(message)
            case "hub.presence":
                for sign in message["signs"]:
                    self._take(message["process"], *sign, is_answer=message["is_answer"])
            case "hub.presence_over":
                self._drop(lambda viewer: viewer.until.pop(message["process"], None))
            case "hub.presence_ask":  # our own too: what our customers did was not kept until now
                await self._answer(message["channel"])

    # --- looking -----------------------------------------------------------------------------------------------------
    async def look(self, connection: Connection, ticket_id: UUID) -> list[dict[str, str]]:
        """Somebody looks at a ticket that they may see; returns who else does, for staff."""
        person = connection.person
        if connection.is_closed:
            return []
        self._here[ticket_id, person.id][connection] = time.monotonic() + VIEWING_SECONDS
        self._looking[connection].add(ticket_id)
        self._sweep_later()
        await self._announce(ticket_id, connection)
        known = self._known.get(str(ticket_id), {}) if person.is_staff else {}
        return [viewer.person for person_id, viewer in known.items() if person_id != str(person.id)]

    async def look_away(self, connection: Connection, ticket_id: UUID) -> None:
        if self._end(connection, ticket_id):
            await self._announce(ticket_id, connection)

    def left(self, connection: Connection, room: str) -> None:
        """A connection is not in this room any more."""
        ticket_id = ticket_of(room)
        if ticket_id is not None and self._end(connection, ticket_id):
            self._announce_later(ticket_id, connection)

    def gone(self, connection: Connection) -> None:
        """A connection has ended, or its person has become somebody else."""
        for ticket_id in list(self._looking.get(connection, ())):
            self._end(connection, ticket_id)
            self._announce_later(ticket_id, connection)

    def ticket_changed(self, event: StreamEvent) -> None:
        """Whoever may not see the ticket any more does not look at it either."""
        for (ticket_id, person_id), connections in list(self._here.items()):
            if ticket_id != event.entity_id:
                continue
            for connection in list(connections):
                if event.action == "deleted" or not event.scope.admits(person_id, connection.person.role):
                    self.left(connection, ticket_room(ticket_id))

    def _end(self, connection: Connection, ticket_id: UUID) -> bool:
        """Forget that a connection looks at a ticket; True when it did."""
        tickets = self._looking.get(connection)
        if tickets is None or ticket_id not in tickets:
            return False
        tickets.discard(ticket_id)
        if not tickets:
            del self._looking[connection]
        key = ticket_id, connection.person.id
        del self._here[key][connection]
        if not self._here[key]:
            del self._here[key]
        return True

    # --- telling the other processes ---------------------------------------------------------------------------------
    async def _announce(self, ticket_id: UUID, connection: Connection) -> None:
        """Tell every process whether this person looks at the ticket."""
        async with self._announcing:
            person = connection.person
            sign = (str(ticket_id), person.as_json(), self._seconds_left((ticket_id, person.id)))
            await self._send(STAFF_GROUP, self._message([sign], is_answer=False))

    def _announce_later(self, ticket_id: UUID, connection: Connection) -> None:
        in_background(self._unless_away(self._announce(ticket_id, connection)))

    def _seconds_left(self, key: tuple[UUID, UUID]) -> float:
        """0 when nobody of this process looks any more."""
        last = max(self._here[key].values()) if key in self._here else 0.0
        return max(0.0, round(last - time.monotonic(), 1))

    async def _ask(self) -> None:
        assert self._subscription is not None
        await self._send(
            STREAM_GROUP,
            {"type": "hub.presence_ask", "channel": self._subscription.channel},
        )

    async def _answer(self, channel: str) -> None:
        signs = [
            (str(key[0]), next(iter(connections)).person.as_json(), self._seconds_left(key))
            for key, connections in self._here.items()
        ]
        for start in range(0, len(signs), SIGNS_IN_MESSAGE):
            assert self._subscription is not None
            message = self._message(signs[start : start + SIGNS_IN_MESSAGE], is_answer=True)
            await self._subscription.layer.send(channel, message)

    def _message(self, signs: list[tuple[str, dict[str, str], float]], *, is_answer: bool) -> Message:
        return {"type": "hub.presence", "process": self._process, "signs": signs, "is_answer": is_answer}

    async def _send(self, group: str, message: Message) -> None:
        if self._subscription is not None:
            await self._subscription.layer.group_send(group, message)

    @staticmethod
    async def _unless_away(step: Awaitable[None]) -> None:
        """For what nobody waits for: if it is not told, it ends by itself a little later."""
        try:
            await step
        except Exception as error:  # any layer's any failure
            logger.warning("Who looks at a ticket was not told (%r).", error)

    # --- what they told ----------------------------------------------------------------------------------------------
    def _take(self, process: str, ticket_id: str, person: dict[str, str], seconds: float, *, is_answer: bool) -> None:
        if not self._has_asked:
            return
        viewers = self._known.setdefault(ticket_id, {})
        viewer = viewers.get(person["id"])
        if seconds > 0:
            is_new = viewer is None
            viewer = viewers.setdefault(person["id"], _Viewer(person))
            viewer.person = person
            viewer.until[process] = time.monotonic() + seconds
            self._sweep_later()
            if is_new or not is_answer:
                self._tell(ticket_id, person, seconds)
        elif viewer is not None:
            viewer.until.pop(process, None)
            self._settle(ticket_id, viewer)
        if not viewers:
            self._known.pop(ticket_id, None)

    def _drop(self, shorten: Callable[[_Viewer], Any]) -> None:
        """Change every entry, and tell of those that are over now."""
        for ticket_id, viewers in list(self._known.items()):
            for viewer in list(viewers.values()):
                shorten(viewer)
                self._settle(ticket_id, viewer)

    def _settle(self, ticket_id: str, viewer: _Viewer) -> None:
        """End an entry that no process holds any more."""
        viewers = self._known[ticket_id]
        if not viewer.until and viewer.person["id"] in viewers:
            del viewers[viewer.person["id"]]
            self._tell(ticket_id, viewer.person, 0)
            if not viewers:
                del self._known[ticket_id]

    def _tell(self, ticket_id: str, person: dict[str, str], seconds: float) -> None:
        for connection in list(self._in_room(ticket_room(ticket_id))):
            if connection.person.is_staff and str(connection.person.id) != person["id"]:
                connection.tell("presence", ticket_id=ticket_id, person=person, expires_in=math.ceil(seconds))

    def _sweep_later(self) -> None:
        if self._sweeping is None and (self._known or self._here):
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_EVERY, self._sweep)

    def _sweep(self) -> None:
        """End what nobody ended. Other processes do the same by themselves, so nothing is announced."""
        now = time.monotonic()
        for (ticket_id, _), connections in list(self._here.items()):
            for connection in [it for it, until in connections.items() if until < now]:
                self._end(connection, ticket_id)

        def expire(viewer: _Viewer) -> None:
            viewer.until = {process: until for process, until in viewer.until.items() if until >= now}

        self._drop(expire)
        self._sweeping = None
        self._sweep_later()

    # --- writing -----------------------------------------------------------------------------------------------------
    async def typing(
        self, connection: Connection, ticket_id: UUID, requester_id: UUID, seconds: int, is_internal: bool
    ) -> None:
        """Tell those who look at a ticket that somebody writes (`seconds` 0: has ended).

        Once to the staff and, unless it is an internal note, once to the requester, so that nobody gets it twice.
        """
        fields = {"ticket_id": str(ticket_id), "person": connection.person.as_json(), "expires_in": seconds}
        message = {"type": "hub.typing", "fields": fields, "requester_id": None}
        await self._send(STAFF_GROUP, message)
        if not is_internal:
            await self._send(user_group(requester_id), {**message, "requester_id": str(requester_id)})

    def _on_typing(self, message: Message) -> None:
        fields, requester_id = message["fields"], message["requester_id"]
        for connection in list(self._in_room(ticket_room(fields["ticket_id"]))):
            person = connection.person
            is_meant = (
                person.is_staff if requester_id is None else str(person.id) == requester_id and not person.is_staff
            )
            if is_meant and str(person.id) != fields["person"]["id"]:
                connection.tell("typing", **fields)
