"""Did every reader get every event exactly once, in order?

It is told what was published and what each reader received, both as plain numbers, and knows
nothing of offsets or cursors: so it cannot share a mistake with the code that uses them.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Kind = Literal["lost", "doubled", "reordered", "ghost"]
Reader = TypeVar("Reader", bound=Hashable)


@dataclass(frozen=True)
class Fault:
    """One thing that went wrong for one reader. `where` is its index in what the reader received,
    or for a lost event, in what was published."""

    kind: Kind
    reader: Hashable
    topic: str
    value: Hashable
    where: int
    note: str

    def __str__(self) -> str:
        return f"{self.kind}: reader {self.reader}, {self.topic}, {self.value}: {self.note}"


@dataclass(frozen=True)
class Verdict:
    """All the faults; none means that the promise was kept."""

    faults: tuple[Fault, ...]
    readers: int
    deliveries: int

    @property
    def kept(self) -> bool:
        """Whether there is no fault. A run without deliveries proves nothing: see `deliveries`."""
        return not self.faults

    def of_kind(self, kind: Kind) -> list[Fault]:
        """The faults of one kind."""
        return [fault for fault in self.faults if fault.kind == kind]

    def __str__(self) -> str:
        counts = Counter(fault.kind for fault in self.faults)
        heading = f"{self.deliveries} deliveries to {self.readers} readers"
        if not self.faults:
            return f"{heading}: each event exactly once, in order"
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        lines = [f"{heading}: {what}", *(f"  {fault}" for fault in self.faults[:20])]
        if len(self.faults) > 20:
            lines.append(f"  … and {len(self.faults) - 20} more")
        return "\n".join(lines)


def judge(
    published: Mapping[str, Sequence[Hashable]],
    received: Mapping[Reader, Iterable[tuple[str, Any]]],
    *,
    starts: Mapping[Reader, Mapping[str, int]] | None = None,
    topics: Mapping[Reader, Iterable[str]] | None = None,
) -> Verdict:
    """Compare, per reader and topic.

    `published`: topic → the values in the order in which they were committed; a value may stand
    there once. `received`: reader → (topic, value) as they came, over all its connections.
    `starts`: for readers that joined later, topic → index of the first event they are owed.
    `topics`: reader → what it subscribed to; all that were published where it is not given.
    Raises ValueError when a value was published twice: nobody could tell it from a repetition.
    """
    for topic, values in published.items():
        if len(set(values)) != len(values):
            raise ValueError(f"values of {topic} are not unique: nothing can be judged")
    faults: list[Fault] = []
    deliveries = 0
    for reader, sequence in received.items():
        by_topic: dict[str, list[Hashable]] = {}
        for topic, value in sequence:
            by_topic.setdefault(topic, []).append(value)
            deliveries += 1
        wanted = set(published) if topics is None else set(topics[reader])
        first = (starts or {}).get(reader, {})
        for topic in sorted(wanted | set(by_topic)):
            owed = published.get(topic, ()) if topic in wanted else ()
            faults.extend(
                _faults(reader, topic, owed, by_topic.get(topic, []), first.get(topic, 0))
            )
    return Verdict(tuple(faults), len(received), deliveries)


def assert_exactly_once(
    published: Mapping[str, Sequence[Hashable]],
    received: Mapping[Reader, Iterable[tuple[str, Any]]],
    *,
    starts: Mapping[Reader, Mapping[str, int]] | None = None,
    topics: Mapping[Reader, Iterable[str]] | None = None,
) -> Verdict:
    """`judge()`, as an assertion that also refuses a run in which nothing was delivered."""
    verdict = judge(published, received, starts=starts, topics=topics)
    assert verdict.kept, str(verdict)
    assert verdict.deliveries, "nothing was delivered: this run proves nothing"
    return verdict


def _faults(
    reader: Hashable,
    topic: str,
    published: Sequence[Hashable],
    received: Sequence[Hashable],
    start: int,
) -> Iterable[Fault]:
    place = {value: index for index, value in enumerate(published)}
    seen: set[Hashable] = set()
    furthest = start - 1
    for index, value in enumerate(received):
        if value not in place:
            note = "never published to this topic, or not for this reader"
            yield Fault("ghost", reader, topic, value, index, note)
        elif place[value] < start:
            note = f"from before the reader's start ({start})"
            yield Fault("ghost", reader, topic, value, index, note)
        elif value in seen:
            yield Fault("doubled", reader, topic, value, index, f"again as its {index}th")
        elif place[value] < furthest:
            note = f"came after {published[furthest]}"
            yield Fault("reordered", reader, topic, value, index, note)
        seen.add(value)
        furthest = max(furthest, place.get(value, furthest))
    for index in range(start, len(published)):
        if published[index] not in seen:
            note = f"number {index} of {len(published)}"
            yield Fault("lost", reader, topic, published[index], index, note)
