"""The hub: one per process, behind both doors.

It follows the event stream (`notifications.sockets.following`). Each event is encoded once per audience and wire form
and put into the outbox of every connection that is in a room for it and may see it. Rights are decided here, at
delivery, from the scope that travels with the event and the role the person has now; rooms are filters and give no
right.

For one event and connection the entity's update comes before the notification: whoever handles the notification finds
the entity in the state that it speaks of.

The publisher sends to all hubs. With the in-process layer it must do so from this hub's event loop, `hub.loop`,
which is None until the first connection (nobody is there to be told):
`asyncio.run_coroutine_threadsafe(layer.group_send(STREAM_GROUP, message), hub.loop)`.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import connections

from notifications.models import Notification
from notifications.payloads import head_of
from notifications.sockets import authentication, limits, replay
from notifications.sockets.connection import Connection, Coverage, in_background
from notifications.sockets.events import StreamEvent
from notifications.sockets.following import Follower
from notifications.sockets.presence import Presence
from notifications.sockets.refusal import CloseCode, Refusal
from notifications.sockets.rooms import OWN
from notifications.sockets.subscription import Subscription
from notifications.stream import STREAM_GROUP

logger = logging.getLogger(__name__)


class Hub:
    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._stream: Follower | None = None
        # A thread of our own: whoever loses a right does not keep it until everyone who comes back has been served.
        self._thread: ThreadPoolExecutor | None = None
        self._replays: asyncio.Semaphore | None = None
        self._people: defaultdict[UUID, set[Connection]] = defaultdict(set)
        self._budgets: dict[UUID, limits.OperationBudget] = {}  # of each person's connections together
        self._rooms: defaultdict[str, set[Connection]] = defaultdict(set)
        self._held: set[Connection] = set()  # those with a backlog
        self.presence = Presence(lambda room: self._rooms.get(room, ()))
        self.is_going_away = False
        self._returning = 0  # connections that were told to come back

    @property
    def open(self) -> int:
        """How many connections this process has; may be asked from any thread."""
        return sum(len(connections) for connections in tuple(self._people.values()))

    # --- connections -----------------------------------------------------------------------------------------------
    async def enter(self, connection: Connection, after: int | None = None) -> int:
        """Let a connection in; returns the cursor from which on its person's own events are shown.

        `after` is the cursor with which it comes back; what it missed follows when it has been started. Raises
        Refusal. The caller then starts the connection without waiting for anything in between.
        """
        person = connection.person
        if self.is_going_away:
            raise self.going_away()
        if len(self._people.get(person.id, ())) >= limits.CONNECTIONS_PER_PERSON:
            raise Refusal(
                "too_many_connections",
                f"You have {limits.CONNECTIONS_PER_PERSON} connections open already.",
                CloseCode.TOO_MANY,
            )
        connection.on_closed = self._forget
        self._people[person.id].add(connection)
        connection.budget.shared = self._budgets.setdefault(person.id, limits.OperationBudget(limits.BUSY_CONNECTIONS))
        self._hold(connection)
        try:
            await self._listen()
            await self._regroup(connection, person.groups)
            # Once more, now that we would hear of a change: role and account as they are, not as they were.
            present = await database_sync_to_async(replay.standing)(person.id)
            await authentication.check_still_open(connection, present)
            if connection.person is person:  # else we have heard of a change meanwhile, and know better
                connection.person = present
            if connection.is_closed:
                raise Refusal("unavailable", "The connection ended while it was opened.", CloseCode.UNAVAILABLE)
            if connection.person.groups != connection.groups:
                await self._regroup(connection, connection.person.groups)
        except BaseException:
            connection.gone()
            raise
        if after is None:
            after = self._position(connection)
            self._show_from(connection, OWN, Coverage(after, after))
            self._release(connection)
        else:
            self._release(connection)
            connection.resume(after)
            in_background(self._resume(connection, after))
        return after

    async def stop(self) -> None:
        """Close every connection, telling it to come back, and stop listening."""
        await self.presence.stop()
        for connection in self._everyone():
            connection.close(CloseCode.UNAVAILABLE, "going_away", "The server is restarting. Please come back.")
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._stream is not None:
            await self._stream.stop()
        if self._subscription is not None:
            await self._subscription.close()
        if self._thread is not None:
            await self._ask(connections.close_all)
            self._thread.shutdown()
        self.loop = self._listening = self._subscription = self._stream = self._thread = self._replays = None
        self.is_going_away = False

    async def go_away(self, seconds: float) -> None:
        """Before this process ends: send everyone away to come back elsewhere, and let nobody in any more.

        Spread over up to `seconds`, so that they do not all come back in the same moment; a few are told at once.
        Returns when the last has been told, if it can be told at all.
        """
        self.is_going_away = True
        self._returning = len(leaving := self._everyone())
        random.shuffle(leaving)
        loop = asyncio.get_running_loop()
        began, step = loop.time(), min(seconds / max(1, len(leaving)), 1 / limits.RETURNS_PER_SECOND)
        farewells = []
        for number, connection in enumerate(leaving):
            if (pause := began + number * step - loop.time()) > 0:
                await asyncio.sleep(pause)
            refusal = self.going_away()
            farewells.append(
                connection.close(refusal.close_code, refusal.code, refusal.message, retry_after=refusal.retry_after)
            )
        await self.presence.stop()  # nobody looks from here any more, even if some of that has not been told yet
        await asyncio.gather(*(farewell for farewell in farewells if farewell is not None), return_exceptions=True)

    def going_away(self) -> Refusal:
        """Why nobody can stay, and when to come back: each at another moment, of as many as it takes to greet all."""
        wait = random.uniform(1.0, 2.0 + self._returning / limits.RETURNS_PER_SECOND)  # noqa: S311 - no secret
        return Refusal(
            "going_away", "The server is restarting. Please come back.", CloseCode.UNAVAILABLE, round(wait, 2)
        )

    async def _listen(self) -> None:
        """Whoever returns is on a hub that follows the stream. Raises what the layer or the database raises."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._begin())
        try:
            await asyncio.shield(self._listening)
        except BaseException:
            if self._listening is not None and self._listening.done():
                self._listening = None  # the next connection tries again
            raise

    async def _begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="hub")
        self._replays = asyncio.Semaphore(limits.REPLAYS_AT_ONCE)
        self._subscription = self._subscription or Subscription(self._handle)
        await self._subscription.change(leave=frozenset(), enter=frozenset({STREAM_GROUP}))
        self._stream = Follower(self._ask, self._take, self._lost, self._eased, self._subscription.renew)
        await self._stream.start()

    async def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Database work of the hub's own, past that of its connections."""
        return await database_sync_to_async(question, thread_sensitive=False, executor=self._thread)(*arguments)

    async def _regroup(self, connection: Connection, groups: frozenset[str]) -> None:
        """Be in these groups for a connection. They bring what leaves no trace: nobody is turned away for them."""
        before, connection.groups = connection.groups, groups
        if self._subscription is None:
            return
        try:
            await self._subscription.change(leave=before - groups, enter=groups - before)
        except Exception as error:  # any layer's any failure
            logger.warning("The channel layer was not told of a change of groups (%r); trying again.", error)
            asyncio.get_running_loop().call_later(limits.LOOK_EVERY, lambda: in_background(self._renew_groups()))
        await self.presence.listen(self._subscription)

    async def _renew_groups(self) -> None:
        if self._subscription is not None:
            await self._subscription.renew()
            await self.presence.listen(self._subscription)

    def _forget(self, connection: Connection) -> None:
        """A connection has ended: it is told nothing any more, from this moment on."""
        self._held.discard(connection)
        self.presence.gone(connection)
        for room in connection.rooms:
            self._unlist(connection, room)
        connections = self._people[connection.person.id]
        connections.discard(connection)
        if not connections:
            del self._people[connection.person.id]
            del self._budgets[connection.person.id]
        in_background(self._regroup(connection, frozenset()))

    def _everyone(self) -> list[Connection]:
        return [connection for connections in self._people.values() for connection in connections]

    # --- rooms -----------------------------------------------------------------------------------------------------
    async def join(self, connection: Connection, room: str, after: int | None) -> int:
        """Show a room to a connection; returns the cursor from which on it sees all that happens there.

        With `after`, first what it missed there since. `room` is canonical. Raises Refusal.
        """
        async with connection.changing:
            is_resumed, began = False, time.monotonic()
            if room not in connection.rooms:
                if len(connection.rooms) > limits.ROOMS_PER_CONNECTION:  # OWN is one more
                    raise Refusal(
                        "too_many_rooms", f"A connection can be in {limits.ROOMS_PER_CONNECTION} rooms at most."
                    )
                theirs = self._people.get(connection.person.id, ())
                if sum(len(it.rooms) - 1 for it in theirs) >= limits.ROOMS_PER_CONNECTION * limits.BUSY_CONNECTIONS:
                    raise Refusal("too_many_rooms", "Your connections are in as many rooms as they can be together.")
                if after is None:
                    after = connection.replay_from(room)
                    is_resumed = after is not None
            cursor = await self._cover(connection, room, after)
            if is_resumed:
                connection.has_resumed(room, time.monotonic() - began)
            return cursor

    async def leave(self, connection: Connection, room: str) -> None:
        async with connection.changing:
            if connection.rooms.pop(room, None) is not None:
                self._unlist(connection, room)
                self.presence.left(connection, room)

    async def _resume(self, connection: Connection, after: int) -> None:
        try:
            async with connection.changing:
                began = time.monotonic()
                await self._cover(connection, OWN, after)
                connection.has_resumed(OWN, time.monotonic() - began)
        except Refusal as refusal:
            connection.refuse(refusal)
        except Exception:
            connection.close(
                CloseCode.UNAVAILABLE, "unavailable", "What you missed could not be read. Please come back."
            )
            raise

    async def _cover(self, connection: Connection, room: str, after: int | None) -> int:
        """Show everything of `room` after `after` (None: from now on), in order, without a gap or a repetition.

        "Now" is what this process has taken in of the stream: the log may be ahead of it, and what it has not taken
        in comes live, in its place. Up to there the log is read; what is taken in meanwhile is held back.
        """
        if after is None:
            return await self._cover_now(connection, room, None)
        assert self._replays is not None
        async with self._replays:
            if connection.is_closed:  # while it waited: others have more of the place
                raise Refusal("unavailable", "The connection has ended.", CloseCode.UNAVAILABLE)
            return await self._cover_now(connection, room, after)

    async def _cover_now(self, connection: Connection, room: str, after: int | None) -> int:
        position = self._position(connection)
        self._hold(connection)
        try:
            await database_sync_to_async(replay.standing)(connection.person.id, room if room != OWN else None)
            covered = Coverage(position, position)
            if after is not None and await self._replay(connection, room, after, position):
                # A client that comes from another process may know more than this one has taken in.
                covered = Coverage(after, max(after, position))
            known = connection.rooms.get(room)
            if known is not None:
                covered = Coverage(min(known.start, covered.start), known.live)
            self._show_from(connection, room, covered)
            return max(position, covered.live)
        finally:
            self._release(connection)

    async def _replay(self, connection: Connection, room: str, after: int, until: int) -> bool:
        """Show what happened in (after, until] and was not shown through another room; False if it is too much."""
        user_id, position = connection.person.id, after
        try:
            await database_sync_to_async(replay.check_extent)(user_id, after, until)
        except replay.TooMuchMissed as error:
            self._cannot_replay(connection, room, error, until)
            return False
        while page := await database_sync_to_async(replay.missed)(user_id, position, until):
            for event in page:
                position = event.position
                shown = any(known.start < position for known in connection.covering(event))
                connection.show(event, room in event.rooms and not shown, room == OWN)
            await self._read_by(connection)
            if connection.is_closed:
                return True
        try:
            await database_sync_to_async(replay.check_is_there)(after)
        except replay.TooMuchMissed as error:  # some of it was removed while it was read
            self._cannot_replay(connection, room, error, until)
        return True

    @staticmethod
    def _cannot_replay(connection: Connection, room: str, error: replay.TooMuchMissed, cursor: int) -> None:
        if room == OWN:
            connection.resume(None)  # whoever fetches everything needs no replay of the rooms either
        place = {} if room == OWN else {"room": room}
        connection.tell("resync_required", reason=error.reason, message=error.message, cursor=cursor, **place)

    def _position(self, connection: Connection) -> int:
        """Up to where this process has taken in the stream, or the connection knows it from another one."""
        assert self._stream is not None
        assert self._stream.position is not None
        own = connection.rooms.get(OWN)
        return max(self._stream.position, own.live if own is not None else 0)

    async def _read_by(self, connection: Connection) -> None:
        """Wait until the client has read what it was sent. One that takes its time lets another replay go on."""
        replays = self._replays
        if replays is None:
            return  # the hub has stopped, and the connection with it
        reading = asyncio.create_task(connection.outbox_empty())
        done, _ = await asyncio.wait({reading}, timeout=limits.REPLAY_TURN)
        if not done:
            replays.release()
            try:
                await reading
            finally:
                await replays.acquire()

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
        for show in backlog:
            show()

    # --- events ----------------------------------------------------------------------------------------------------
    async def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] != "hub.event":
            await self.presence.handle(message)
        elif self._stream is not None:
            await self._stream.heard(message)

    async def _take(self, event: StreamEvent) -> None:
        """Show the next event of the stream. Waits for the database first, then for nothing: it is shown to all."""
        user_id = event.concerns_sign_in_of
        if user_id is not None and user_id in self._people:
            await self._refresh(user_id, event)
        if event.entity == "ticket":
            self.presence.ticket_changed(event)
        if event.notifications is None:
            found, asked = dict[UUID, dict[str, str]](), set[UUID]()
            while new := self._people.keys() - asked:  # somebody may come in while it is asked for
                found |= await self._ask(_notifications_of, event.id, list(new))
                asked |= new
            event.notifications = found
        for connection in list(self._held):
            self._keep(connection, event)
        for connection in self._candidates(event):
            if connection.backlog is None:
                connection.show_live(event)

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
        if not event.concerns(connection.person):
            return
        if len(connection.backlog) >= limits.OUTBOX_FRAMES:
            connection.close(CloseCode.SLOW, "slow", "Too much happened while you joined. Come back with your cursor.")
        else:
            connection.backlog.append(partial(connection.show_live, event))

    async def _refresh(self, user_id: UUID, event: StreamEvent) -> None:
        """The event changed somebody who is connected here: apply what they are now before anything else is shown."""
        try:
            person = await self._ask(replay.standing, user_id)
        except Refusal as refusal:
            for connection in list(self._people.get(user_id, ())):
                connection.refuse(refusal)
            return
        except Exception:
            logger.exception("The rights of somebody connected could not be read.")
            # Whether they may still be here is not known, so they may not.
            for connection in list(self._people.get(user_id, ())):
                connection.close(
                    CloseCode.UNAVAILABLE, "unavailable", "Your rights could not be read. Please come back."
                )
            return
        for connection in list(self._people.get(user_id, ())):
            if authentication.has_ended(connection, person, event.ended_session):
                connection.refuse(authentication.signed_out())
                continue
            has_role = connection.person.role == person.role
            if not has_role:
                self.presence.gone(connection)
            connection.person = person
            if not has_role:
                in_background(self._regroup(connection, person.groups))
                connection.ask_to_fetch(
                    event.position,
                    "role_changed",
                    "You see other things than before. Please fetch the present state.",
                )

    def _lost(self, position: int) -> None:
        """Events are gone, and nobody knows whose: everyone has to fetch the present state.

        Whoever knows more of the stream than there is of it has to begin anew: they would be told nothing for a while.
        """
        for connection in self._everyone():
            if any(covered.live > position for covered in connection.rooms.values()):
                connection.close(CloseCode.UNAVAILABLE, "unavailable", "The event stream was reset. Please come back.")
            else:
                connection.ask_to_fetch(position, "gap", "Something was missed. Please fetch the present state.")

    async def _eased(self) -> None:
        """Much is shown at once: wait for those who read, but not for those who do not."""
        busy = [connection for connection in self._everyone() if connection.has_frames_waiting]
        readers = [asyncio.create_task(connection.outbox_empty()) for connection in busy]
        if readers:
            _done, late = await asyncio.wait(readers, timeout=limits.CATCH_UP_PATIENCE)
            for reader in late:
                reader.cancel()


def _notifications_of(event_id: UUID, user_ids: list[UUID]) -> dict[UUID, dict[str, str]]:
    found = Notification.objects.filter(event_id=event_id, recipient_id__in=user_ids)
    return {notification.recipient_id: head_of(notification) for notification in found}


hub = Hub()
