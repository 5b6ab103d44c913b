"""What became of what was published: the journals of the publishers against what clients were told.

It knows values and the order of each writer, and nothing of offsets, epochs or cursors. A client's
story of one topic falls into parts, divided by its resets. Inside a part each writer's events must be
there once, in order and without one missing in between; what is missing between two parts is what the
reset said it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.clients import Client, Item


@dataclass
class Journal:
    """What one or all publishers wrote down."""

    committed: dict[str, dict[str, None]] = field(default_factory=dict)
    """By topic, each writer's in its order; one that was acknowledged again stands where it stood first."""
    possible: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    """Published more than once, as far as their publishers know: a log that forgets may place them twice."""
    rolled_back: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    batches: set[str] = field(default_factory=set)
    rounds: Counter[int] = field(default_factory=Counter)
    by_slot: Counter[int] = field(default_factory=Counter)
    last: dict[int, dict[tuple[int, str], str]] = field(default_factory=dict)
    """By round: by slot and topic, the value that belongs to it."""

    newest: dict[int, dict[str, str]] = field(default_factory=dict)
    """By slot and topic."""

    def read(self, slot: int, text: str) -> None:
        """Take some more lines of one slot."""
        newest = self.newest.setdefault(slot, {})
        for line in text.splitlines():
            kind, *words = line.split(" ")
            match kind:
                case "p":
                    self.possible.add(words[1])
                    newest[words[0]] = words[1]
                case "a":
                    self.again.add(words[1])
                case "c":
                    self.committed.setdefault(words[0], {}).setdefault(words[1])
                    self.by_slot[slot] += 1
                case "x":
                    self.rolled_back.add(words[1])
                case "k":
                    self.deaths[" ".join(words)] += 1
                case "b":
                    self.batches.add(words[0])
                case "r":
                    self.rounds[int(words[0])] += 1
                    marks = self.last.setdefault(int(words[0]), {})
                    marks.update({(slot, topic): value for topic, value in newest.items()})

    @property
    def sent(self) -> int:
        return sum(len(values) for values in self.committed.values())


@dataclass
class Report:
    """What a run showed. Faults are sentences."""

    sent: int = 0
    delivered: int = 0
    replayed: int = 0
    clients: int = 0
    injected: int = 0
    resets: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Told again after a reset, because the log was set back and the publisher repeated itself."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> set[str]:
        return {kind for kind in ("lost", "doubled", "reordered", "ghosts") if getattr(self, kind)}

    def add(self, other: Report) -> None:
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif isinstance(value, list):
                getattr(self, name).extend(value)
            elif name != "clients":
                setattr(self, name, getattr(self, name) + value)
        self.clients = max(self.clients, other.clients)

    def __str__(self) -> str:
        resets = ", ".join(f"{count} {why}" for why, count in sorted(self.resets.items()))
        line = (
            f"faults {self.injected}, clients {self.clients}, sent {self.sent}, delivered "
            f"{self.delivered}, replayed {self.replayed}, resets {resets or 'none'}, lost "
            f"{len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.reordered)}, "
            f"never published {len(self.ghosts)}"
        )
        if self.repeated:
            line += f", repeated after a reset {self.repeated}"
        if self.refused:
            line += f", refused {dict(self.refused)}"
        examples = [*self.lost[:5], *self.doubled[:5], *self.reordered[:5], *self.ghosts[:5]]
        return "\n  ".join([line, *examples])


def judge(journal: Journal, clients: Iterable[Client]) -> Report:
    """Compare. Every client had everything, and was silent, when the journal began."""
    report = Report(sent=journal.sent)
    stories: dict[str, list[tuple[str, list[list[str]]]]] = {}
    for client in clients:
        report.clients += 1
        report.replayed += client.replayed
        report.refused.update(client.codes)
        report.resets.update(item.reset for item in list(client.items) if item.reset)
        for topic in client.topics:
            parts = _parts([item for item in list(client.items) if item.topic == topic])
            report.delivered += sum(len(part) for part in parts)
            _judge_writers(report, f"{client.kind} {client.name}", topic, parts, journal)
            stories.setdefault(topic, []).append((client.name, parts))
    for topic, told in stories.items():
        _judge_agreement(report, topic, told, journal.again)
    return report


def _parts(items: Sequence[Item]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for item in items:
        if item.reset:
            parts.append([])
        else:
            parts[-1].append(item.value)
    return parts


def _writer(value: str) -> tuple[str, int]:
    writer, _, number = value.rpartition(":")
    return writer, int(number)


def _judge_writers(
    report: Report, who: str, topic: str, parts: Sequence[Sequence[str]], journal: Journal
) -> None:
    part_of: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        newest: dict[str, int] = {}
        for value in part:
            seen = part_of.setdefault(value, [])
            if place in seen:
                report.doubled.append(f"doubled: {who}, {topic}, {value}")
            elif seen:
                report.repeated += 1
            seen.append(place)
            if value not in journal.possible:
                report.ghosts.append(f"never published: {who}, {topic}, {value}")
            writer, number = _writer(value)
            if number < newest.get(writer, 0) and len(seen) == 1:
                report.reordered.append(f"out of order: {who}, {topic}, {value}")
            newest[writer] = max(number, newest.get(writer, 0))
    report.lost += _lost(who, topic, part_of, len(parts) - 1, journal.committed.get(topic, ()))


def _lost(
    who: str,
    topic: str,
    part_of: Mapping[str, Sequence[int]],
    last_part: int,
    committed: Iterable[str],
) -> list[str]:
    """Committed and not told, without a reset between the events around it."""
    lost: list[str] = []
    before: dict[str, int] = {}
    missing: dict[str, list[str]] = {}
    for value in committed:
        writer, _ = _writer(value)
        if value not in part_of:
            missing.setdefault(writer, []).append(value)
            continue
        first = part_of[value][0]
        if first <= before.get(writer, 0):
            where = f"part {first} of 0 to {last_part}, before {value}"
            lost += [f"{one} ({where})" for one in missing.get(writer, [])]
        missing[writer] = []
        before[writer] = max(part_of[value])
    for writer, values in missing.items():
        if before.get(writer, 0) == last_part:
            lost += [f"{value} (the end of part {last_part})" for value in values]
    return [f"lost: {who}, {topic}, {value}" for value in lost]


def _judge_agreement(
    report: Report,
    topic: str,
    told: Sequence[tuple[str, Sequence[Sequence[str]]]],
    again: Collection[str],
) -> None:
    """All were told in the same order. An event that the log forgot, and its publisher repeated, has
    two places; it is passed over. That it has is seen by one who was told twice, or by two who were told
    on different sides of a reset."""
    twice: set[str] = set()
    sides: dict[str, set[int]] = {}
    for _, parts in told:
        counts = Counter(value for part in parts for value in part)
        twice.update(value for value, count in counts.items() if count > 1)
        for side, part in enumerate(parts):
            for value in part:
                sides.setdefault(value, set()).add(side)
    twice.update(value for value in again if len(sides.get(value, ())) > 1)
    _, longest = max(told, key=lambda one: (-len(one[1]), sum(map(len, one[1]))))
    place = {value: n for n, value in enumerate(v for part in longest for v in part)}
    for who, parts in told:
        for part in parts:
            newest = -1
            for value in part:
                found = newest if value in twice else place.get(value, newest)
                if found < newest:
                    report.reordered.append(f"out of order: {who}, {topic}, {value} too late")
                newest = max(found, newest)
