"""One process's viewers of a board: the state is kept once, and each rate has one ticker and one frame
for all who asked for it.

Must keep true: the cost of a change does not grow with the number of viewers but by one write to a
socket for each of their updates; nothing runs for a board that nobody watches.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from ...core.events import Event, encode_data
from ...core.feeds import Tap
from ...core.runtime import Runtime
from .sources import SourceRunner, source_of

if TYPE_CHECKING:
    from .topics import Board

logger = logging.getLogger("django_live.dashboards")

CHECK = 2.0
"""Seconds between two questions whether the store holds something newer than was heard of."""
COMPARE = 15.0
"""Seconds after which a board that changes all the time is read again as a whole."""
LINGER = 5.0
"""Seconds that a board without viewers is kept: they reload, and those that poll come back."""
RETRY = 1.0


class Level:
    """The viewers of one board who want the same rate."""

    def __init__(self, follower: Follower, topic: Board) -> None:
        self.follower = follower
        self.topic = topic
        self.every = 1 / topic.updates_per_second
        self.waiting = follower.holding.waiting()
        self.news = False
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, what: Any) -> None:
        """Tell the viewers: now, or when their next update is due."""
        self.waiting.update(what) if isinstance(self.waiting, set) else self.waiting.extend(what)
        self.news = True
        if self._timer is None:
            loop = self.follower.live.hub.loop
            self._timer = loop.call_at(max(self._next, loop.time()), self._flush)

    def _flush(self) -> None:
        self._timer = None
        hub = self.follower.live.hub
        self._next = hub.loop.time() + self.every
        feed = hub.feeds.get(self.topic.key)
        waiting, self.waiting = self.waiting, self.follower.holding.waiting()
        if feed is None:
            return
        data = self.follower.placed(self.follower.holding.part(waiting))
        hub.dispatch(feed, [feed.append(Event(type="update", data=encode_data(data)))])

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Follower:
    """Keeps one board for this process's viewers."""

    def __init__(self, live: Runtime, board: Board) -> None:
        self.live = live
        self.board = board
        self.holding = board.holding()
        self.levels: dict[str, Level] = {}
        self.run = secrets.token_hex(4)
        """Tells the updates of one follower from another's, in another process or later."""
        self.count = 0
        self.wanted = live.hub.loop.time()
        """When a viewer was last here, or came."""
        self.ready = asyncio.ensure_future(self._begin())
        # Each who waits for it hears of a fault; nobody else has to.
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._tap: Tap | None = None
        self._loading: asyncio.Task[None] | None = None
        self._source: SourceRunner | None = None

    async def _begin(self) -> None:
        subscribing = self.live.subscribing
        # First the news, then the store: what is written in between is in one of them.
        self._tap = await subscribing.listen(self.board.news, self._hear, self._anew)
        try:
            await self.holding.load()
        except BaseException:
            self.live.hub.unlisten(self._tap)
            raise
        source = source_of(self.board)
        if source is not None:
            self._source = SourceRunner(self.live, source, self.board)

    def level(self, topic: Board) -> None:
        """Have viewers of this rate."""
        self.wanted = self.live.hub.loop.time()
        if topic.key not in self.levels:
            self.levels[topic.key] = Level(self, topic)

    def is_watched(self) -> bool:
        feeds = self.live.hub.feeds
        self.levels = {key: one for key, one in self.levels.items() if self._lasts(key, one, feeds)}
        now = self.live.hub.loop.time()
        if self.levels.keys() & feeds.keys():
            self.wanted = now
            return True
        return now - self.wanted < LINGER

    def _lasts(self, key: str, level: Level, feeds: Any) -> bool:
        lasts = key in feeds or self.live.hub.loop.time() - self.wanted < LINGER
        if not lasts:
            level.cancel()
        return lasts

    # -- what viewers get --------------------------------------------------------------------------

    def placed(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"run": self.run, "n": self.count, "age": self.holding.age, **data}

    def snapshot(self) -> dict[str, Any]:
        return self.placed(self.holding.snapshot())

    # -- what is heard -----------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        changed = self.holding.take(event)
        if changed is None:
            self._load_soon()
        else:
            self._tell(changed)

    def _tell(self, changed: Any) -> None:
        # Also where nothing changed: viewers see that it is fresh.
        self.count += 1
        for level in self.levels.values():
            level.changed(changed)

    def _anew(self, reason: str) -> None:
        """The log was set back or trimmed: viewers start again from a snapshot."""
        logger.info("The board %s is read anew (%s).", self.board.name, reason)
        self._load_soon()

    def _load_soon(self) -> None:
        if self._loading is None or self._loading.done():
            self._loading = self.live.spawn(self._load())

    async def _load(self) -> None:
        changed = await self.holding.load()
        if changed is None:
            self.count += 1
            self._reset_viewers()
        elif changed:
            self._tell(changed)

    def _reset_viewers(self) -> None:
        for key in self.levels:
            feed = self.live.hub.feeds.get(key)
            for subscription in list(feed.subscriptions) if feed else ():
                self.live.subscribing.reset(subscription, "epoch")

    # -- now and then ------------------------------------------------------------------------------

    async def attend(self) -> None:
        """Until nobody watches any more: find what was lost on the way here."""
        loop = self.live.hub.loop
        compared = loop.time()
        try:
            await self.ready
            while self.is_watched():
                await asyncio.sleep(CHECK)
                try:
                    due = loop.time() - compared >= COMPARE and self.holding.may_lack
                    if due or await self.holding.check():
                        compared = loop.time()
                        await self._load()
                except Exception as error:
                    logger.warning("The board %s could not be checked: %s", self.board.name, error)
        finally:
            self._end()

    def _end(self) -> None:
        if self._source is not None:
            self._source.stop()
        for level in self.levels.values():
            level.cancel()
        if self._tap is not None:
            self.live.hub.unlisten(self._tap)


class Boards:
    """The boards that one event loop has viewers of."""

    def __init__(self, live: Runtime) -> None:
        # Weak: this is the value of a dictionary that has the runtime for its key.
        self._live = weakref.ref(live)
        self._followers: dict[str, Follower] = {}

    async def follow(self, topic: Board) -> Follower:
        """The follower of the topic's board, ready; with a level for the topic's rate."""
        board = topic.board
        follower = self._followers.get(board.key)
        if follower is None:
            live = self._live()
            assert live is not None
            follower = self._followers[board.key] = Follower(live, board)
            task = live.spawn(self._attend(board.key, follower))
            task.set_name(f"board {board.name}")
        follower.level(topic)
        await asyncio.shield(follower.ready)
        return follower

    async def _attend(self, key: str, follower: Follower) -> None:
        try:
            await follower.attend()
        except Exception as error:
            # Its viewers were told: their snapshots failed, and they come back.
            logger.warning("The board %s could not be opened: %s", follower.board.name, error)
        finally:
            if self._followers.get(key) is follower:
                del self._followers[key]


_boards: weakref.WeakKeyDictionary[Runtime, Boards] = weakref.WeakKeyDictionary()


def boards_of(live: Runtime) -> Boards:
    """The boards of this runtime."""
    found = _boards.get(live)
    if found is None:
        found = _boards[live] = Boards(live)
    return found
