"""Presence inside one process: which connections its members have, until the shared state knows.

Must keep true: a subscription that begins or ends costs a few operations on dicts; a member who comes
back within the grace has not left; everything that waits is written, or written later, by one task per
process, however many connections and topics there are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from ..conf import live_settings
from ..core import hooks
from ..core.chores import Chore
from ..core.events import encode_data
from ..core.publishing import Item, publish_many
from ..core.runtime import Runtime, runtime
from ..core.state import get_state
from ..core.topics import Topic, Viewer
from ..exceptions import InvalidTopic
from .seats import (
    LARGE,
    ROUND_SHARE,
    SEAT_LIFE,
    Batch,
    Seats,
    count_key,
    map_of,
    seat_key,
    state_key,
)

if TYPE_CHECKING:
    from .presence import Presence

logger = logging.getLogger("django_live.presence")

BATCH = 0.25
"""Seconds that comings and goings are gathered, where writing them is quick."""
REST = 4.0
"""Times as long as writing took, until the next time: for many topics, or by a slow store, more is
gathered and written at once."""
LONGEST_REST = 2.0
"""Seconds."""
COUNT_EVERY = 2.0
"""Seconds between two counts of a large topic."""
INFO_BYTES = 2000
"""What may be shown of a member, as JSON."""

HIDDEN = object()
"""The info of somebody whom the topic does not show."""


class _Seat:
    """A member, as far as this process is concerned."""

    __slots__ = ("connections", "info", "is_written", "leaving", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.connections: dict[str, None] = {}
        self.leaving: dict[str, None] = {}
        """Those of them that have ended, within the grace."""
        self.info: Any = None
        """What is shown, as JSON; None: not asked yet."""
        self.is_written = False


class _Room:
    """A topic that members of this process are in."""

    def __init__(self, topic: Topic, companion: Topic, presence: Presence) -> None:
        self.topic = topic
        self.companion = companion
        self.presence = presence
        self.seats: dict[str, _Seat] = {}
        self.leaving: deque[tuple[float, str, str]] = deque()
        """When which connection of which member has left for good."""
        self.changed: set[str] = set()
        self.ended: set[str] = set()
        """Keys of the states of connections that have ended."""

    @property
    def members(self) -> int:
        return sum(seat.is_written for seat in self.seats.values())

    def let_go(self, now: float) -> None:
        """Take out the connections whose grace is over."""
        while self.leaving and self.leaving[0][0] <= now:
            _, member, connection = self.leaving.popleft()
            seat = self.seats.get(member)
            if seat is not None and connection in seat.leaving:
                self._end(member, seat, connection)

    def arrive(self, member: str, viewer: Viewer, connection: str) -> None:
        seat = self.seats.get(member)
        if seat is None:
            seat = self.seats[member] = _Seat(viewer)
        if seat.leaving:  # a page that was reloaded takes the place of the one before
            self._end(member, seat, next(iter(seat.leaving)))
        seat.connections[connection] = None
        self.changed.add(member)

    def depart(self, member: str, connection: str, now: float) -> None:
        seat = self.seats.get(member)
        if seat is not None and connection in seat.connections:
            seat.leaving[connection] = None
            self.leaving.append((now + self.presence.grace, member, connection))

    def _end(self, member: str, seat: _Seat, connection: str) -> None:
        del seat.leaving[connection]
        seat.connections.pop(connection, None)
        self.ended.add(state_key(connection, member))
        self.changed.add(member)

    def batch(self, process: str) -> Batch:
        """What has to be written. Noted as changed is afterwards only who waits for the next time."""
        batch = Batch(self.topic, self.companion, self.presence.names)
        batch.gone, self.ended = self.ended, set()
        self.changed, changed = set(), self.changed
        for member in changed:
            seat, key = self.seats.get(member), seat_key(process, member)
            if seat is None:
                batch.gone.add(key)
            elif seat.connections and seat.info is None:
                self.changed.add(member)  # came a moment ago: the next time
            elif not seat.connections or seat.info is HIDDEN:
                if not seat.connections:
                    del self.seats[member]
                if seat.is_written:
                    batch.gone.add(key)
                seat.is_written = False
            else:
                connections = json.dumps(list(seat.connections))
                batch.seats[key] = f'{{"c":{connections},"i":{seat.info}}}'
                seat.is_written = True
        batch.members = self.members
        return batch


class Attendance:
    """All rooms of one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.name = secrets.token_hex(8)
        """Whose the leases are."""
        self.process = ""
        """Names the seats of this process; empty as long as it has none."""
        self.rooms: dict[str, _Room] = {}
        self.is_watched = False
        """Whether somebody here has asked who is in a topic: they want to hear of a process that dies."""
        self.others: set[str] = set()
        """Processes that lived at the last round."""
        self._counting: dict[str, _Room] = {}
        self._refused: set[str] = set()
        self._renewed = clock()
        self._rests_until = clock()

    def start(self, live: Runtime) -> None:
        """Have the rounds made until the runtime ends."""
        lease = live_settings().PRESENCE_LEASE
        live.take_up(Chore("write who has come and gone", BATCH, self.write))
        live.take_up(Chore("count members", COUNT_EVERY, self.count))
        live.take_up(Chore("renew who is present", lease * ROUND_SHARE, self.round))

    # -- in the event loop -------------------------------------------------------------------------

    def arrived(self, presence: Presence, topic: Topic, viewer: Viewer, connection: str) -> None:
        member = presence.member_id(viewer)
        room = self.rooms.get(topic.key) if member else None
        if member and room is None:
            room = self._new_room(presence, topic)
        if room is not None and member:
            room.arrive(member, viewer, short(connection))

    def departed(self, presence: Presence, topic: Topic, viewer: Viewer, connection: str) -> None:
        member = presence.member_id(viewer)
        room = self.rooms.get(topic.key)
        if room is not None and member:
            room.depart(member, short(connection), self.clock())

    def _new_room(self, presence: Presence, topic: Topic) -> _Room | None:
        try:
            companion = presence.companion(topic)
            companion.name  # noqa: B018 - raises where the name is too long
        except InvalidTopic:
            if topic.key not in self._refused:
                self._refused.add(topic.key)
                logger.exception("Who is in %s cannot be told.", topic.name)
            return None
        room = self.rooms[topic.key] = _Room(topic, companion, presence)
        return room

    # -- rounds ------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Write and tell what has changed in all rooms, unless that was done a moment ago and took long."""
        now = self.clock()
        if now < self._rests_until:
            return
        for room in self.rooms.values():
            if room.leaving:
                room.let_go(now)
        rooms = [room for room in self.rooms.values() if room.changed]
        if not rooms:
            return
        await self._ask_who_they_are(rooms)
        process = self.process or secrets.token_hex(4)
        batches = []
        for room in rooms:
            changed = set(room.changed)
            batches.append((room, room.batch(process), changed))
        try:
            counting = await hooks.in_thread(
                hooks.store_threads(), lambda: self._write(process, [b for _, b, _ in batches])
            )
        except BaseException:
            for room, batch, changed in batches:  # again at the next round, as it is then
                room.changed |= changed
                room.ended |= batch.gone
            raise
        ended = self.clock()
        self._rests_until = ended + min((ended - now) * REST, LONGEST_REST)
        self.process = process
        for room, batch, _ in batches:
            if batch.topic.key in counting:
                self._counting[batch.topic.key] = room
            if not room.seats and not room.changed:
                self.rooms.pop(room.topic.key, None)

    def _write(self, process: str, batches: list[Batch]) -> set[str]:
        """In a thread. The topics whose members have to be counted."""
        seats = Seats(get_state())
        if process != self.process:
            seats.enter(process)
            self.others = seats.alive()
        seats.note_rooms(process, batches)
        told: list[Item] = []
        counting = set()
        for batch in batches:
            items, is_counted = seats.write(batch, process, self.others)
            told += items
            if is_counted:
                counting.add(batch.topic.key)
        publish_many(told)
        seats.leave_rooms(process, [one.topic.key for one in batches if not one.members])
        return counting

    async def _ask_who_they_are(self, rooms: Iterable[_Room]) -> None:
        """What is shown of newcomers: one question for all users, in a thread of the project's code."""
        new = [
            (room, seat)
            for room in rooms
            for member in room.changed
            if (seat := room.seats.get(member)) is not None and seat.info is None
        ]
        if new:
            await hooks.in_thread(hooks.hook_threads(), lambda: _show(new))

    async def count(self) -> None:
        """Count the members of the large topics in which something has changed."""
        waiting = list(self._counting.values())
        if not waiting:
            return

        def work() -> list[str]:
            seats, told, done = Seats(get_state()), [], []
            for room in waiting:
                # Less than the interval, so that it is free at the next turn.
                items = seats.count(room.topic, room.companion, self.name, COUNT_EVERY * 0.7)
                if items is not None:
                    told += items
                    done.append(room.topic.key)
            publish_many(told)
            return done

        self._counting = {}
        try:
            done = await hooks.in_thread(hooks.store_threads(), work)
        except BaseException:
            done = []
            raise
        finally:
            again = {room.topic.key: room for room in waiting if room.topic.key not in done}
            self._counting = {**again, **self._counting}

    async def round(self) -> None:
        """Say that this process lives, and clean up after those that do not."""
        if not self.process and not self.is_watched:
            return
        stands = await hooks.in_thread(hooks.store_threads(), self._round)
        if not stands:
            self._sit_down_again()
        elif self.clock() - self._renewed > SEAT_LIFE / 4:
            await self._renew_seats()

    def _round(self) -> bool:
        seats = Seats(get_state())
        stands = not self.process or seats.renew(self.process)
        self.others = seats.alive()
        for dead in seats.dead() - {self.process}:
            told = seats.left_by(dead, self.name)
            if told is not None:
                publish_many(told)
                seats.remove(dead)
        return stands

    def _sit_down_again(self) -> None:
        """The others took this process for dead, and perhaps are removing its seats: it takes new ones,
        under another name."""
        logger.warning("This process was taken for dead; its members are told anew.")
        self.process = ""
        for room in self.rooms.values():
            room.changed |= room.seats.keys()
            for seat in room.seats.values():
                seat.is_written = False

    async def _renew_seats(self) -> None:
        keys = {
            map_of(room.topic): [
                LARGE,
                count_key(self.process),
                *(seat_key(self.process, member) for member in room.seats),
            ]
            for room in self.rooms.values()
        }
        work = lambda: Seats(get_state()).renew_seats(self.process, keys)  # noqa: E731
        await hooks.in_thread(hooks.store_threads(), work)
        self._renewed = self.clock()


def _show(new: list[tuple[_Room, _Seat]]) -> None:
    ids = {seat.viewer.user_id for _, seat in new if seat.viewer.user_id is not None}
    users = _users(ids)
    for room, seat in new:
        try:
            user = users.get(seat.viewer.user_id or "") or seat.viewer.user
            info = room.presence.shown(room.topic, user)
            text = encode_data(info)
            if len(text) > INFO_BYTES:
                raise ValueError(f"{len(text)} characters are too many")
            seat.info = HIDDEN if info is None else text
        except Exception:
            # A fault of the topic's must not keep all others from being told.
            logger.exception("What %r shows of a member could not be had.", room.topic)
            seat.info = "{}"
        finally:
            seat.viewer.forget_user()


def _users(ids: Collection[str]) -> dict[str, Any]:
    """The users of these keys that have a row."""
    try:
        found = get_user_model()._default_manager.filter(pk__in=ids) if ids else []
        return {str(user.pk): user for user in found}
    except (ValueError, ValidationError):  # keys that an authenticator of the project's made up
        return {}


def short(connection: str) -> str:
    """Stands for a connection where others see it: who knows its id could have it spared events."""
    return hashlib.blake2b(connection.encode(), digest_size=6).hexdigest()


_attendances: weakref.WeakKeyDictionary[Runtime, Attendance] = weakref.WeakKeyDictionary()


def attendance() -> Attendance:
    """That of the event loop which runs here; its rounds begin with the first member."""
    live = runtime()
    if live not in _attendances:
        _attendances[live] = Attendance()
        _attendances[live].start(live)
    return _attendances[live]
