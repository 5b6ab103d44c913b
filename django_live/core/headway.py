"""Station 0, beside all others: how far long work is, for whoever waits for it at a terminal.

Must keep true: where nobody looks it costs a look at a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .blocks import BlockVariable

_follower = BlockVariable[Callable[[int], None] | None]("follower", default=None)


@contextmanager
def followed_by(tell: Callable[[int], None]) -> Iterator[None]:
    """Call ``tell`` with how much this block has done so far, whenever there is more."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        tell(done)

    with _follower.holding(more):
        yield


def made(count: int) -> None:
    """So much more is done: events sent or removed, topics looked at."""
    follower = _follower.get()
    if follower is not None and count:
        follower(count)
