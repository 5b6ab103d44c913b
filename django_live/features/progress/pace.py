"""How fast a job goes, and how long it will take: from a moving window, as the eye would judge.

Must keep true: what was done long ago says nothing; a job that stands still has no estimate.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW = 30.0
"""Seconds that are looked back on."""
LEAST = 0.5
"""Seconds that have to be seen before anything is said."""


class _Sample(NamedTuple):
    at: float
    done: float
    fraction: float | None


class Pace:
    """Fed with what is done, now and then."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def note(self, now: float, done: float, fraction: float | None) -> None:
        """``now`` in seconds by any clock that only goes forward; ``fraction`` 0 to 1, if known."""
        self._samples.append(_Sample(now, done, fraction))
        # One sample before the window stays: what came before it is not looked at.
        while len(self._samples) > 2 and self._samples[1].at <= now - WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Done per second; None as long as too little was seen."""
        if not self._is_enough():
            return None
        first, last = self._samples[0], self._samples[-1]
        return (last.done - first.done) / (last.at - first.at)

    @property
    def left(self) -> float | None:
        """Seconds until all is done; None where nobody can say."""
        if not self._is_enough():
            return None
        last = self._samples[-1]
        first = next((s for s in self._samples if s.fraction is not None), last)
        if first.fraction is None or last.fraction is None or last.fraction <= first.fraction:
            return None
        return (1 - last.fraction) * (last.at - first.at) / (last.fraction - first.fraction)

    def _is_enough(self) -> bool:
        return bool(self._samples) and self._samples[-1].at - self._samples[0].at >= LEAST
