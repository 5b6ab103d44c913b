"""Who is in a topic, as the shared state keeps it, and what is told when that changes.

Each process has a seat in the map of a topic for each member that it holds connections of; so a member
with tabs on two processes has two seats, and is gone with the last of them. Only a process itself
changes its seats, and after its death whoever holds the lease to clean up. So nobody has to ask what
the others have, and two who leave at the same moment on two processes are told right.

Must keep true: what a seat's event says is newer than what any reader has with a lower version; seats
of a process that no longer renews its one key are nobody's, also before they are removed; the traffic
of a large topic grows with its members, and not with their square.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..conf import live_settings
from ..core.events import encode_data
from ..core.publishing import Item
from ..core.state import ABSENT, Entries, Entry, SharedState
from ..core.topics import Topic, as_topic
from ..exceptions import InvalidTopic

logger = logging.getLogger("django_live.presence")

ALIVE = "presence alive"
"""The map of the processes that live; they renew their key."""
KNOWN = "presence processes"
"""The map of those that have, or had, seats."""
TTL_SHARE = 0.6
"""Of PRESENCE_LEASE: how long the key of a process lives. Rounds take ``ROUND_SHARE``; what is left is
for the one who cleans up."""
ROUND_SHARE = 0.2
SEAT_LIFE = 86_400.0
"""Seconds. Seats are renewed every few hours only: it is the process's key that says whether they count."""
MOST_SEATS = 1_000_000
SHRINK = 0.8
"""A large topic is a small one again below this share of its limit: not at every coming and going."""
CLEANING = 30.0
"""Seconds that one process has for cleaning up after another."""

ACTIVE, IDLE, AWAY = "active", "idle", "away"
STATES = (ACTIVE, IDLE, AWAY)
"""The better one first: a member is as active as the best of its connections."""

SEAT, STATE, COUNT = "m", "s", "c"
LARGE = "large"
"""Its value is how many members were counted last."""

CHANGED, COUNTED, MEMBERS = "changed", "count", "members"


def map_of(topic: Topic) -> str:
    return f"presence {topic.key}"


def rooms_of(process: str) -> str:
    """The map of the topics that a process has seats in."""
    return f"presence rooms {process}"


def seat_key(process: str, member: str) -> str:
    return f"{SEAT} {process} {member}"


def state_key(connection: str, member: str) -> str:
    return f"{STATE} {connection} {member}"


def count_key(process: str) -> str:
    return f"{COUNT} {process}"


class Member(NamedTuple):
    """Somebody who is in a topic, over all tabs, devices and processes."""

    id: str
    """The primary key of the user as text; of a visitor something that stands for the session."""
    info: Any
    """What the topic shows of them."""
    state: str
    """``active``, ``idle`` or ``away``."""


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in a topic."""

    count: int
    members: list[Member]
    """Empty where ``is_large``."""
    is_large: bool
    """Whether the topic has too many members to name them."""


@dataclass
class Batch:
    """What one process has to write of one topic."""

    topic: Topic
    companion: Topic
    names: int
    """Members that are named at most."""
    seats: dict[str, str] = field(default_factory=dict)
    """Values by key."""
    gone: set[str] = field(default_factory=set)
    members: int = 0
    """How many members the process has in the topic after it."""


class Seats:
    """Reads and writes the maps. Called from plain threads."""

    def __init__(self, state: SharedState) -> None:
        self.state = state

    # -- processes ---------------------------------------------------------------------------------

    def enter(self, process: str) -> None:
        """Make the process known, and alive."""
        self.state.set(KNOWN, {process: ""})
        self.state.set(ALIVE, {process: ""}, ttl=_process_ttl())

    def renew(self, process: str) -> bool:
        """Keep the process alive, whatever it holds. False: the others took it for dead."""
        return not self.state.renew({ALIVE: [process]}, _process_ttl())[ALIVE]

    def alive(self) -> set[str]:
        return set(self.state.items(ALIVE).entries)

    def dead(self) -> set[str]:
        known = set(self.state.items(KNOWN).entries)
        return known - self.alive() if known else set()

    def left_by(self, dead: str, me: str) -> list[Item] | None:
        """What to tell of the seats that a dead process has left. None: somebody else does that. They
        are removed afterwards, so whoever dies in between leaves it all to the next."""
        if self.state.acquire(f"presence clean {dead}", me, CLEANING) is None:
            return None
        told: list[Item] = []
        for topic, companion in self._rooms(dead):
            entries = self.state.items(map_of(topic))
            large = entries.entries.get(LARGE)
            if large is not None:
                counted = self._counted(topic, companion, large)
                told += [counted] if counted else []
                continue
            gone = sorted(key for key in entries.entries if _seat_of(key, dead))
            # Newer than each of them; and nobody sets a seat of this process any more.
            told.append((companion, CHANGED, _change(entries.version + 1, {}, gone)))
        return told

    def remove(self, dead: str) -> None:
        """Remove the seats of a dead process, and then the knowledge of it."""
        for topic, _ in self._rooms(dead):
            keys = self.state.items(map_of(topic)).entries
            self.state.delete(map_of(topic), [key for key in keys if _process_in(key) == dead])
        self.state.delete(rooms_of(dead), list(self.state.items(rooms_of(dead)).entries))
        self.state.delete(KNOWN, [dead])

    def _rooms(self, process: str) -> Iterator[tuple[Topic, Topic]]:
        """The topics that a process has noted, and their companions."""
        for text, _ in self.state.items(rooms_of(process)).entries.values():
            namespace, name, companion = json.loads(text)
            with suppress(InvalidTopic):  # declared no longer
                yield as_topic(name, namespace), as_topic(companion, namespace)

    # -- seats -------------------------------------------------------------------------------------

    def note_rooms(self, process: str, batches: Iterable[Batch]) -> None:
        """Note where a process is going to have seats, before it has them."""
        rooms = {
            one.topic.key: encode_data([one.topic.namespace, one.topic.name, one.companion.name])
            for one in batches
        }
        if rooms:
            self.state.change(rooms_of(process), rooms, ttl=SEAT_LIFE, most=MOST_SEATS)

    def leave_rooms(self, process: str, topic_keys: Collection[str]) -> None:
        """The process has no seats left in these."""
        if topic_keys:
            self.state.delete(rooms_of(process), topic_keys)

    def renew_seats(self, process: str, keys: Mapping[str, Collection[str]]) -> None:
        """Let all seats of a process live on, in one question."""
        self.state.renew(
            {rooms_of(process): self.state.items(rooms_of(process)).entries, **keys}, SEAT_LIFE
        )

    def write(
        self, batch: Batch, process: str, processes: Collection[str]
    ) -> tuple[list[Item], bool]:
        """Write what changed; what to tell, and whether the members have to be counted.
        ``processes``: those that may have seats."""
        name, own = map_of(batch.topic), count_key(process)
        entries = dict(batch.seats)
        gone = set(batch.gone)
        if batch.members:
            entries[own] = str(batch.members)
        else:
            gone.add(own)
        changes = self.state.change(name, entries, gone, ttl=SEAT_LIFE, most=MOST_SEATS)
        assert changes is not None
        around = self.state.items(name, [LARGE, *map(count_key, {process, *processes})])
        large = around.entries.get(LARGE)
        seats = sum(int(one.value) for key, one in around.entries.items() if key != LARGE)
        if large is None and seats > batch.names:
            self.state.change(
                name,
                {LARGE: str(seats)},
                ttl=SEAT_LIFE,
                expect={LARGE: ABSENT},
                most=MOST_SEATS,
            )
            return [], True
        if large is None:
            told = {key: json.loads(value) for key, value in batch.seats.items()}
            gone.discard(own)
            data = _change(changes.version, told, sorted(gone))
            return [(batch.companion, CHANGED, data)], False
        if seats > batch.names * SHRINK:
            return [], True
        expect = {LARGE: large.version}
        if self.state.change(name, delete=[LARGE], expect=expect) is None:
            return [], True  # somebody else changed it just now
        return [(batch.companion, MEMBERS, self._named(self._entries(batch.topic)))], False

    def count(self, topic: Topic, companion: Topic, me: str, every: float) -> list[Item] | None:
        """Count a large topic's members anew, unless that was done a moment ago: None."""
        if self.state.acquire(f"presence count {topic.key}", me + " " + topic.key, every) is None:
            return None
        large = self.state.items(map_of(topic), [LARGE]).entries.get(LARGE)
        if large is None:
            return []
        counted = self._counted(topic, companion, large)
        return [counted] if counted else None

    def _counted(self, topic: Topic, companion: Topic, large: Entry) -> Item | None:
        """None: somebody has counted meanwhile, or named the members again."""
        entries = self._entries(topic)
        count = len({_member_in(key) for key in entries.entries if key.startswith(SEAT)})
        changes = self.state.change(
            map_of(topic),
            {LARGE: str(count)},
            ttl=SEAT_LIFE,
            expect={LARGE: large.version},
            most=MOST_SEATS,
        )
        return changes and (companion, COUNTED, {"version": changes.version, "count": count})

    # -- states ------------------------------------------------------------------------------------

    def say_state(
        self, topic: Topic, companion: Topic, member: str, connection: str, state: str
    ) -> list[Item]:
        """Note that a connection is idle, away or active; what to tell. Nothing happens where the member
        has no such connection."""
        name = map_of(topic)
        seats = self.state.items(name, [seat_key(process, member) for process in self.alive()])
        if not any(connection in json.loads(one.value)["c"] for one in seats.entries.values()):
            return []
        key = state_key(connection, member)
        if state == ACTIVE:
            changes = self.state.delete(name, [key])
            told = _change(changes.version, {}, [key])
            is_new = bool(changes.removed)
        else:
            known = self.state.get(name, key)
            is_new = known is None or known.value != state
            changes = self.state.set(name, {key: state}, ttl=SEAT_LIFE, most=MOST_SEATS)
            told = _change(changes.version, {key: state}, [])
        if not is_new or LARGE in self.state.items(name, [LARGE]).entries:
            return []
        return [(companion, CHANGED, told)]

    # -- reading -----------------------------------------------------------------------------------

    def snapshot(self, topic: Topic) -> dict[str, Any]:
        """What a newcomer starts from. Of a large topic it costs one entry, however many members."""
        head = self.state.items(map_of(topic), [LARGE])
        if LARGE in head.entries:
            return {"version": head.version, "count": int(head.entries[LARGE].value)}
        return self._named(self._entries(topic))

    def members(self, topic: Topic) -> Members:
        told = self.snapshot(topic)
        if "count" in told:
            return Members(told["count"], [], True)
        members = list(_members({key: value for key, (value, _) in told["entries"].items()}))
        return Members(len(members), members, False)

    def _entries(self, topic: Topic) -> Entries:
        """What the topic's map holds of processes that live."""
        found = self.state.items(map_of(topic))
        alive = self.alive() if found.entries else set()
        living = {
            key: entry
            for key, entry in found.entries.items()
            if key.startswith(STATE + " ") or _process_in(key) in alive
        }
        return Entries(found.version, living)

    @staticmethod
    def _named(found: Entries) -> dict[str, Any]:
        entries = {
            key: [entry.value if key.startswith(STATE) else json.loads(entry.value), entry.version]
            for key, entry in found.entries.items()
            if key.startswith((SEAT + " ", STATE + " "))
        }
        return {"version": found.version, "entries": entries}


def _members(entries: Mapping[str, Any]) -> Iterator[Member]:
    """The members that these seats and states make."""
    seats: dict[str, list[dict[str, Any]]] = {}
    for key, value in entries.items():
        if key.startswith(SEAT + " "):
            seats.setdefault(_member_in(key), []).append(value)
    for member, own in seats.items():
        said = [
            entries.get(state_key(connection, member), ACTIVE)
            for seat in own
            for connection in seat["c"]
        ]
        best = min(said, key=STATES.index, default=ACTIVE)
        yield Member(member, own[0]["i"], best)


def forget_member(member: str, data: Any) -> Any:
    """An event's data without what it tells of one member."""
    if not isinstance(data, dict):
        return data
    kept = dict(data)
    for part in ("set", "entries"):
        if part in kept:
            kept[part] = {k: v for k, v in kept[part].items() if _member_in(k) != member}
    if "gone" in kept:
        kept["gone"] = [key for key in kept["gone"] if _member_in(key) != member]
    return kept


def _change(version: int, entries: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    return {"version": version, "set": entries, "gone": gone}


def _seat_of(key: str, process: str) -> bool:
    return key.startswith(f"{SEAT} {process} ")


def _process_in(key: str) -> str:
    kind, _, rest = key.partition(" ")
    return rest.partition(" ")[0] if kind in (SEAT, COUNT) else ""


def _member_in(key: str) -> str:
    return key.split(" ", 2)[-1]


def _process_ttl() -> float:
    return live_settings().PRESENCE_LEASE * TTL_SHARE
