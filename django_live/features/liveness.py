"""Who reports and is alive: jobs and token streams, in whatever process they are.

Each has an entry that expires in one map of the shared state. Who has viewers of it asks, once a second
and for all of them in one question, whether it is still there.

Must keep true: nothing that died looks alive for longer than its lease; whoever takes over an id has a
greater claim than all who had it before; a foreign id and one that never was look alike.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from ..core import hooks
from ..core.state import get_state
from ..core.topics import Topic, Viewer

if TYPE_CHECKING:
    from .scribe import Source

logger = logging.getLogger("django_live.liveness")

ALIVE = "django_live.alive"
CANCELLED = "django_live.cancelled"
MOST = 1_000_000
BEAT = 0.5
"""Seconds between two signs of life, which are also when a source hears that it is to stop."""
LOOK = 1.0
"""Seconds between two looks of those who have viewers."""

_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


class Access(NamedTuple):
    """Who may read and stop it: its owner, and who has the permission."""

    owner: str = ""
    permission: str = ""
    namespace: str = ""

    def allows(self, viewer: Viewer, namespace: str, scope: str) -> bool:
        if viewer.user_id is None or namespace != self.namespace or not viewer.can(scope):
            return False
        if self.owner and self.owner == viewer.user_id:
            return True
        return bool(self.permission) and bool(viewer.user.has_perm(self.permission))


def new_id() -> str:
    """Unguessable: 144 random bits."""
    return secrets.token_urlsafe(18)


def check_id(id: str) -> str:
    """The id itself, or ``ValueError`` for what is no id. A task's UUID is one."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f"{id!r} is no id: use 16 to 64 letters, digits, - and _, not guessable.")
    return id


def owner_id(owner: Any) -> str:
    """The primary key as text, of a user or a primary key; empty for nobody."""
    key = getattr(owner, "pk", owner)
    return "" if key is None else str(key)


# -- the side that reports -------------------------------------------------------------------------


def claim(id: str, lease: float) -> int:
    """Go by this id from now on. The fencing token: greater than that of whoever had it before."""
    get_state().delete(CANCELLED, [id])
    return get_state().set(ALIVE, {id: ""}, ttl=lease, most=MOST).version


def end_claim(id: str, token: int) -> None:
    """Nobody goes by this id any more, unless somebody else does."""
    get_state().change(ALIVE, delete=[id], expect={id: token})


def ask_to_stop(id: str, keep: float) -> None:
    """Whoever goes by this id hears of it within ``BEAT``; who goes by it later does not."""
    get_state().set(CANCELLED, {id: ""}, ttl=keep, most=MOST)


def beat(sources: Sequence[Source]) -> None:
    """Give signs of life for sources, and tell them what others want."""
    if not sources:
        return
    state, ids = get_state(), [source.id for source in sources]
    known = state.items(ALIVE, ids).entries
    asked = state.items(CANCELLED, ids).entries
    leases: dict[float, list[str]] = {}
    for source in sources:
        entry = known.get(source.id)
        if source.id in asked:
            source.cancel()
        if entry is not None and entry.version > source.claim:
            source.superseded()
        elif source.is_silent:
            if entry is not None:
                source.fell_silent()
        elif entry is None:  # the store was away, or emptied, or this process was stopped
            source.claim = state.set(ALIVE, {source.id: ""}, ttl=source.lease, most=MOST).version
        else:
            leases.setdefault(source.lease, []).append(source.id)
    for lease, of_lease in leases.items():
        state.renew({ALIVE: of_lease}, lease)


def is_alive(id: str) -> bool:
    return get_state().get(ALIVE, id) is not None


# -- the side that looks on ------------------------------------------------------------------------


class _Watch:
    """What the viewers of one event loop look at."""

    def __init__(self) -> None:
        self.viewers: Counter[Topic] = Counter()
        self.missing: set[Topic] = set()
        self.judged: set[Topic] = set()
        """Missing, and it is known why."""
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look()
            except Exception:
                logger.debug("Who is alive could not be asked.", exc_info=True)

    async def _look(self) -> None:
        topics = {str(topic.kwargs["id"]): topic for topic in self.viewers}
        alive = (await get_state().aitems(ALIVE, list(topics))).entries
        missing = {topic for id, topic in topics.items() if id not in alive}
        # Missing twice: it may have been looked for between its record and its first sign of life.
        again, self.missing = missing & self.missing, missing
        self.judged &= missing
        for topic in again - self.judged:
            died: Callable[[], None] = topic.found_dead  # type: ignore[attr-defined]
            await hooks.in_thread(hooks.store_threads(), died)
            self.judged.add(topic)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


class WatchedTopic(Topic):
    """A topic with an ``id`` of something that reports. While anybody is subscribed here,
    ``found_dead()`` is called when it is not alive: also when it has ended, or not begun."""

    def found_dead(self) -> None:
        """Say so, if it should be alive and is not. Runs in a plain thread.

        Ask ``is_alive()`` once more, and after reading what it is at: the look is out of date by then,
        and who begins claims its id before it writes that it runs.
        """
        raise NotImplementedError

    async def on_subscribe(self, viewer: Viewer) -> None:
        loop = asyncio.get_running_loop()
        watch = _watches.setdefault(loop, _Watch())
        watch.viewers[self] += 1
        if watch.task is None:
            watch.task = loop.create_task(watch.run())

    async def on_unsubscribe(self, viewer: Viewer) -> None:
        watch = _watches.get(asyncio.get_running_loop())
        if watch is not None:
            watch.viewers[self] -= 1
            if watch.viewers[self] <= 0:
                del watch.viewers[self]
            if not watch.viewers and watch.task is not None:
                watch.task.cancel()
                watch.task = None
