"""How long one caller of ``publish()`` waits in all for services that do not answer.

Two seconds are promised. A call may ask a log, wait for others that number, ask the log again over
another connection, and hand on to the layer: each of these has a time-out of its own, and all together
would be twice that. So they share an allowance, and so do the hooks of one commit.

Must keep true: what answers in time takes nothing from it, however much is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .blocks import BlockVariable

IN_ALL = 1.4
"""Seconds: less than is promised, because who gives up has to clean up, and may have to wait for a
processor."""
FOR_LAYER = 1.2
"""Seconds of it for the channel layer, whatever is sent over it."""
PROMPT = 0.3
"""Seconds. An answer that takes longer takes its time from what the layer gets."""
LEAST = 0.3
"""Seconds that the layer gets in any case, unless something has been waited for in vain."""


class Allowance:
    """What one caller may still wait. Of one thread."""

    def __init__(self, in_all: float = IN_ALL, for_layer: float = FOR_LAYER) -> None:
        self._in_all = in_all
        self._for_layer = for_layer
        self._in_vain = 0.0
        self._slow = 0.0
        self.is_begun = False

    @property
    def of_log(self) -> float:
        """Seconds for the next answer of the log; 0: it is not asked any more."""
        return max(self._in_all - self._in_vain, 0.0)

    @property
    def of_layer(self) -> float:
        """Seconds for the channel layer; 0: nothing is sent any more."""
        left = self._in_all - self._in_vain
        return max(min(self._for_layer, max(left - self._slow, LEAST), left), 0.0)

    def waited_in_vain(self, seconds: float) -> None:
        """For a log that did not answer, or for others that number."""
        self._in_vain += seconds

    def layer_failed(self, seconds: float) -> None:
        """It took that long."""
        self._in_vain += seconds
        self._for_layer -= seconds

    @contextmanager
    def asking_log(self) -> Iterator[None]:
        """Takes note of how long this block waits for the log; in vain if it raises."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._in_vain += time.monotonic() - began
            raise
        if (took := time.monotonic() - began) > PROMPT:
            self._slow += took

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """What is done in this block takes from it, unless the block is in one of another."""
        self.is_begun = True
        with _of_caller.holding(_of_caller.get() or self):
            yield


_of_caller = BlockVariable[Allowance | None]("allowance", default=None)


def allowance() -> Allowance:
    """The one that is in force here. Where nobody waits, as in a sweep, a new one each time."""
    return _of_caller.get() or Allowance()
