"""What went wrong between what was committed and what a reader saw.

It knows only values and offsets, and nothing of how either came to be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


@dataclass
class Findings:
    """Each entry is one fault."""

    lost: list[str] = field(default_factory=list)
    """Committed, and not seen."""
    ghosts: list[str] = field(default_factory=list)
    """Seen, and never committed."""
    doubled: list[str] = field(default_factory=list)
    """Seen more than once."""
    holes: list[str] = field(default_factory=list)
    """An offset that does not follow the one before it."""
    reordered: list[str] = field(default_factory=list)
    """After a later one of the same writer."""

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, faults in vars(self).items() if faults}

    def __str__(self) -> str:
        return "; ".join(
            f"{len(faults)} {kind}: {', '.join(faults[:5])}"
            for kind, faults in vars(self).items()
            if faults
        )


def examine(
    seen: Sequence[tuple[int, str]], certain: Collection[str], possible: Collection[str] = ()
) -> Findings:
    """What one reader saw of one topic, as (offset, value), against what was certainly committed and
    what may have been (its writer was killed before it knew).

    A value is `writer:number`; the numbers of one writer grow.
    """
    found = Findings()
    counts = Counter(value for _, value in seen)
    found.lost = sorted(set(certain) - counts.keys())
    found.ghosts = sorted(counts.keys() - set(certain) - set(possible))
    found.doubled = sorted(value for value, count in counts.items() if count > 1)
    expected = 1
    newest: dict[str, int] = {}
    for offset, value in seen:
        if offset != expected:
            found.holes.append(f"{expected}→{offset}")
        expected = offset + 1
        writer, _, number = value.rpartition(":")
        if int(number) < newest.get(writer, 0):
            found.reordered.append(value)
        newest[writer] = int(number)
    return found
