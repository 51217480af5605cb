"""The hub: one per process, behind both doors.

It listens to the groups of the people connected to this process. Each event is encoded once per audience and wire form
and put into the outbox of every connection that is in a room for it and may see it. Rights are decided here, at
delivery, from the scope that travels with the event and the role the person has now; rooms are filters and give no
right.

For one event and connection the entity's update comes before the notification: whoever handles the notification finds
the entity in the state that it speaks of.

The publisher sends to the groups. With the in-process layer it must do so from this hub's event loop, `hub.loop`,
which is None until the first connection (nobody is there to be told):
`asyncio.run_coroutine_threadsafe(layer.group_send(group, message), hub.loop)`.
"""

import asyncio
from collections import defaultdict
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async

from notifications.models import Notification
from notifications.payloads import head_of
from notifications.sockets import limits, replay
from notifications.sockets.connection import Connection, Coverage, in_background
from notifications.sockets.events import StreamEvent
from notifications.sockets.refusal import CloseCode, Refusal
from notifications.sockets.rooms import OWN, ticket_room
from notifications.sockets.subscription import Subscription
from notifications.stream import STAFF_GROUP, user_group


class Hub:
    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._subscription: Subscription | None = None
        self._position = 0  # of the last event seen; each arrives once for every group we are in
        self._people: defaultdict[UUID, set[Connection]] = defaultdict(set)
        self._rooms: defaultdict[str, set[Connection]] = defaultdict(set)
        self._held: set[Connection] = set()  # those with a backlog

    # --- connections -----------------------------------------------------------------------------------------------
    async def enter(self, connection: Connection, after: int | None = None) -> int:
        """Let a connection in; returns the cursor from which on its person's own events are shown.

        `after` is the cursor with which it comes back; what it missed follows when it has been started. Raises
        Refusal. The caller then starts the connection without waiting for anything in between.
        """
        person = connection.person
        if len(self._people.get(person.id, ())) >= limits.CONNECTIONS_PER_PERSON:
            raise Refusal(
                "too_many_connections",
                f"You have {limits.CONNECTIONS_PER_PERSON} connections open already.",
                CloseCode.TOO_MANY,
            )
        if self._subscription is None:
            self.loop = asyncio.get_running_loop()
            self._subscription = Subscription(self._handle, self._lost)
        connection.on_closed = self._forget
        self._people[person.id].add(connection)
        self._hold(connection)
        try:
            await self._regroup(connection, person.groups)
            # Once more, now that we would hear of a change: role and account as they are, not as they were.
            standing = await database_sync_to_async(replay.standing)(person.id)
            if standing.person.groups != person.groups:
                await self._regroup(connection, standing.person.groups)
            if connection.is_closed:
                raise Refusal("unavailable", "The connection ended while it was opened.", CloseCode.UNAVAILABLE)
        except BaseException:
            connection.gone()
            raise
        connection.person = standing.person
        if after is None:
            self._show_from(connection, OWN, Coverage(standing.position, standing.position))
            self._release(connection)
            return standing.position
        connection.resumed_after = after
        in_background(self._resume(connection, after))
        return after

    async def stop(self) -> None:
        """Close every connection, telling it to come back, and stop listening."""
        for connection in self._everyone():
            connection.close(CloseCode.UNAVAILABLE, "going_away", "The server is restarting. Please come back.")
        if self._subscription is not None:
            await self._subscription.close()
        self.loop = self._subscription = None
        self._position = 0

    async def _regroup(self, connection: Connection, groups: frozenset[str]) -> None:
        before, connection.groups = connection.groups, groups
        if self._subscription is not None:
            await self._subscription.change(leave=before - groups, enter=groups - before)

    def _forget(self, connection: Connection) -> None:
        """A connection has ended: it is told nothing any more, from this moment on."""
        self._held.discard(connection)
        for room in connection.rooms:
            self._unlist(connection, room)
        connections = self._people[connection.person.id]
        connections.discard(connection)
        if not connections:
            del self._people[connection.person.id]
        in_background(self._regroup(connection, frozenset()))

    def _everyone(self) -> list[Connection]:
        return [connection for connections in self._people.values() for connection in connections]

    # --- rooms -----------------------------------------------------------------------------------------------------
    async def join(self, connection: Connection, room: str, after: int | None) -> int:
        """Show a room to a connection; returns the cursor from which on it sees all that happens there.

        With `after`, first what it missed there since. `room` is canonical. Raises Refusal.
        """
        async with connection.changing:
            if room not in connection.rooms:
                if len(connection.rooms) > limits.ROOMS_PER_CONNECTION:  # OWN is one more
                    raise Refusal(
                        "too_many_rooms", f"A connection can be in {limits.ROOMS_PER_CONNECTION} rooms at most."
                    )
                if after is None:
                    after = connection.resumed_after
            return await self._cover(connection, room, after)

    async def leave(self, connection: Connection, room: str) -> None:
        async with connection.changing:
            if connection.rooms.pop(room, None) is not None:
                self._unlist(connection, room)

    async def _resume(self, connection: Connection, after: int) -> None:
        try:
            async with connection.changing:
                await self._cover(connection, OWN, after)
        except Refusal as refusal:
            connection.refuse(refusal)
        except Exception:
            connection.close(
                CloseCode.UNAVAILABLE, "unavailable", "What you missed could not be read. Please come back."
            )
            raise

    async def _cover(self, connection: Connection, room: str, after: int | None) -> int:
        """Show everything of `room` after `after` (None: from now on), in order, without a gap or a repetition.

        What happens meanwhile is held back: the log is read after we began to listen, so that each event is in the
        log that was read, or comes live, or both; and which of both is decided by its position.
        """
        self._hold(connection)
        try:
            standing = await database_sync_to_async(replay.standing)(
                connection.person.id, room if room != OWN else None
            )
            covered = Coverage(standing.position, standing.position)
            if after is not None and await self._replay(connection, room, after, standing.position):
                covered.start = after
            known = connection.rooms.get(room)
            if known is not None:
                covered = Coverage(min(known.start, covered.start), known.live)
            self._show_from(connection, room, covered)
            return standing.position
        finally:
            self._release(connection)

    async def _replay(self, connection: Connection, room: str, after: int, until: int) -> bool:
        """Show what happened in (after, until] and was not shown through another room; False if it is too much."""
        user_id, position = connection.person.id, after
        try:
            await database_sync_to_async(replay.check_extent)(user_id, after, until)
        except replay.TooMuchMissed as error:
            if room == OWN:
                connection.resumed_after = None  # whoever fetches everything needs no replay of the rooms either
            place = {} if room == OWN else {"room": room}
            connection.tell("resync_required", reason=error.reason, message=error.message, cursor=until, **place)
            return False
        while page := await database_sync_to_async(replay.missed)(user_id, position, until):
            for event, is_visible in page:
                position = event.position
                shown = any(known.start < position for known in connection.covering(event))
                is_update = room in event.rooms and not shown
                if is_visible:
                    self._show(connection, event, is_update, room == OWN)
                elif event.action_for(connection.person) == "removed":
                    self._show(connection, event, is_update, False)
            await connection.outbox_empty()
            if connection.is_closed:
                break
        return True

    def _show_from(self, connection: Connection, room: str, covered: Coverage) -> None:
        if not connection.is_closed:
            connection.rooms[room] = covered
            self._rooms[room].add(connection)

    def _unlist(self, connection: Connection, room: str) -> None:
        self._rooms[room].discard(connection)
        if not self._rooms[room]:
            del self._rooms[room]

    def _hold(self, connection: Connection) -> None:
        connection.backlog = []
        self._held.add(connection)

    def _release(self, connection: Connection) -> None:
        backlog, connection.backlog = connection.backlog or [], None
        self._held.discard(connection)
        for event in backlog:
            self._show_live(connection, event)

    # --- events ----------------------------------------------------------------------------------------------------
    async def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == "hub.event":
            await self._on_event(message)
        elif message["type"] == "hub.ephemeral":
            self._on_ephemeral(message)

    async def _on_event(self, message: dict[str, Any]) -> None:
        if message["position"] <= self._position:
            return
        self._position = message["position"]
        event = StreamEvent(message)
        if event.entity == "user" and event.entity_id in self._people:
            await self._refresh(event.entity_id)
        if event.notifications is None:
            event.notifications = await database_sync_to_async(_notifications_of)(event.id, list(self._people))
        for connection in list(self._held):
            self._keep(connection, event)
        for connection in self._candidates(event):
            if connection.backlog is None:
                self._show_live(connection, event)

    def _candidates(self, event: StreamEvent) -> set[Connection]:
        """Everyone whom this event might concern."""
        found: set[Connection] = set()
        if event.only_reader is not None:
            found |= self._people.get(event.only_reader, set())
        else:
            for room in event.rooms:
                found |= self._rooms.get(room, set())
        for user_id in event.notifications or {}:
            found |= self._people.get(user_id, set())
        return found

    @staticmethod
    def _keep(connection: Connection, event: StreamEvent) -> None:
        assert connection.backlog is not None
        if len(connection.backlog) >= limits.OUTBOX_FRAMES:
            connection.close(CloseCode.SLOW, "slow", "Too much happened while you joined. Come back with your cursor.")
        else:
            connection.backlog.append(event)

    def _show_live(self, connection: Connection, event: StreamEvent) -> None:
        own = connection.rooms.get(OWN)
        self._show(
            connection,
            event,
            any(known.live < event.position for known in connection.covering(event)),
            own is not None and own.live < event.position,
        )

    @staticmethod
    def _show(connection: Connection, event: StreamEvent, update: bool, notification: bool) -> None:
        if update and (frame := event.update_for(connection.person, connection.form)):
            connection.queue(frame)
        if notification and (frame := event.notification_for(connection.person, connection.form)):
            connection.queue(frame)

    async def _refresh(self, user_id: UUID) -> None:
        """Somebody who is connected here was changed: apply what they are now before anything else is shown."""
        try:
            standing = await database_sync_to_async(replay.standing)(user_id)
        except Refusal as refusal:
            for connection in list(self._people.get(user_id, ())):
                connection.refuse(refusal)
            return
        except Exception:
            # Whether they may still be here is not known, so they may not.
            for connection in list(self._people.get(user_id, ())):
                connection.close(
                    CloseCode.UNAVAILABLE, "unavailable", "Your rights could not be read. Please come back."
                )
            raise
        for connection in list(self._people.get(user_id, ())):
            before, connection.person = connection.person, standing.person
            if before.role != standing.person.role:
                await self._regroup(connection, standing.person.groups)
                connection.tell(
                    "resync_required",
                    reason="role_changed",
                    message="You see other things than before. Please fetch the present state.",
                    cursor=self._position,
                )

    def _lost(self) -> None:
        """An event was missed, and nobody knows whose: everyone has to fetch the present state."""
        for connection in self._everyone():
            connection.tell(
                "resync_required",
                reason="gap",
                message="Something was missed. Please fetch the present state.",
                cursor=self._position,
            )

    # --- what passes -----------------------------------------------------------------------------------------------
    async def send_ephemeral(
        self, connection: Connection, event: str, ticket_id: UUID, requester_id: UUID, **fields: Any
    ) -> None:
        """Tell those who look at a ticket of something that leaves no trace.

        Once to the staff and once to the requester, so that nobody gets it twice.
        """
        assert self._subscription is not None
        message = {
            "type": "hub.ephemeral",
            "event": event,
            "ticket_id": str(ticket_id),
            "sender_id": str(connection.person.id),
            "fields": {"ticket_id": str(ticket_id), "person": connection.person.as_json(), **fields},
        }
        layer = self._subscription.layer
        await layer.group_send(STAFF_GROUP, {**message, "requester_id": None})
        await layer.group_send(user_group(requester_id), {**message, "requester_id": str(requester_id)})

    def _on_ephemeral(self, message: dict[str, Any]) -> None:
        requester_id = UUID(message["requester_id"]) if message["requester_id"] else None
        sender_id = UUID(message["sender_id"])
        for connection in list(self._rooms.get(ticket_room(message["ticket_id"]), ())):
            person = connection.person
            is_meant = person.is_staff if requester_id is None else person.id == requester_id and not person.is_staff
            if is_meant and person.id != sender_id:
                connection.tell(message["event"], **message["fields"])


def _notifications_of(event_id: UUID, user_ids: list[UUID]) -> dict[UUID, dict[str, str]]:
    found = Notification.objects.filter(event_id=event_id, recipient_id__in=user_ids)
    return {notification.recipient_id: head_of(notification) for notification in found}


hub = Hub()
