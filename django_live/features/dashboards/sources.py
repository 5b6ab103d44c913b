"""Shared computations: a method of a board that runs once per interval in all processes together, and
only while somebody watches.

Must keep true: one process at a time runs it, the one that has the lease; what a former holder still
writes is refused; a source that raises, hangs or is slow costs its own board's freshness and nothing
else; when its process dies another takes over within ``LEASE`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ...core.hooks import in_thread, store_threads
from ...core.runtime import Runtime
from ...core.state import Lease, get_state
from ...exceptions import InvalidEvent
from .changes import Change, MapChange, lines_change, points_change, rows_change
from .holdings import VALUE
from .values import encode

if TYPE_CHECKING:
    from .topics import Board

logger = logging.getLogger("django_live.dashboards")

LEASE = 5.0
"""Seconds for which a process has a source, unless it says again that it lives."""
LEAST_EVERY = 0.05
MARK = "_live_source"

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Source:
    """How a board's source is run."""

    name: str
    every: float
    timeout: float


def live_source(*, every: float, timeout: float | None = None) -> Callable[[Method], Method]:
    """Makes a method of a board (``def`` or ``async def``) its source: it runs every so many seconds,
    in one process, while somebody watches, and what it returns is shown.

    A ``Latest`` shows it as its value; to a ``Keyed`` it is all rows there are, by key; to a
    ``Window`` a point, or a list of (time, point); to ``Lines`` new lines. ``timeout`` (seconds;
    ``every``, but 10 at least) is how long it may take before it counts as hanging: then another
    process tries.
    """
    if every < LEAST_EVERY:
        raise ImproperlyConfigured(f"live_source(every={every}): {LEAST_EVERY} seconds at least.")

    def mark(method: Method) -> Method:
        found = Source(method.__name__, every, timeout or max(10.0, every))
        setattr(method, MARK, found)
        return method

    return mark


def source_of(board: Board) -> Source | None:
    """The source that the board's class, or one that it inherits from, has declared."""
    for name in dir(type(board)):
        found = getattr(inspect.getattr_static(type(board), name), MARK, None)
        if isinstance(found, Source):
            return found
    return None


class Hanging(Exception):
    """A source has not come back in time. ``thread`` is done when it does."""

    def __init__(self, thread: asyncio.Future[Any] | None) -> None:
        super().__init__()
        self.thread = thread


class SourceRunner:
    """One process's part in running a source."""

    def __init__(self, live: Runtime, source: Source, board: Board) -> None:
        self.source = source
        self.board = board
        self._live = live
        self._name = f"source:{board.key}"
        self._holder = secrets.token_hex(8)
        self._is_failing = False
        self._task = live.spawn(self._run())

    def stop(self) -> None:
        """Nobody watches in this process any more; another may go on at once."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            lease: Lease | None = None
            try:
                lease = await get_state().aacquire(self._name, self._holder, LEASE)
                if lease is not None:
                    await self._hold(lease.token)
            except Hanging as hanging:
                self._report("hangs: it has not come back after %g seconds.", self.source.timeout)
                await self._give_back(lease)
                if hanging.thread is not None:
                    await asyncio.wait({hanging.thread})  # one thread per source is all it may cost
            except asyncio.CancelledError:
                if lease is not None:
                    self._live.spawn(self._give_back(lease))
                raise
            except Exception as error:
                self._report("cannot be run: %s", error)
            await asyncio.sleep(min(self.source.every, LEASE / 4))

    async def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            with contextlib.suppress(Exception):  # then it expires
                await get_state().arelease(self._name, lease.token)

    async def _hold(self, token: int) -> None:
        """Run it again and again, until the lease is lost."""
        running = asyncio.ensure_future(self._repeat(token))
        keeping = asyncio.ensure_future(self._keep(token))
        try:
            done, _ = await asyncio.wait({running, keeping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            running.cancel()
            keeping.cancel()
            await asyncio.gather(running, keeping, return_exceptions=True)

    async def _keep(self, token: int) -> None:
        holds = True
        while holds:
            await asyncio.sleep(LEASE / 4)
            holds = await get_state().aextend(self._name, token, LEASE)

    async def _repeat(self, token: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not await self._once(token):
                return
            # A run that was missed is not made up for.
            due = max(due + self.source.every, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _once(self, token: int) -> bool:
        """Compute and write. False: the lease is another's by now."""
        try:
            change = change_of(self.board, await self._compute())
        except Hanging:
            raise
        except Exception as error:
            self._report("failed; what is shown grows old.", error=error)
            return True
        if not await get_state().aextend(self._name, token, LEASE):
            return False
        written = await in_thread(store_threads(), lambda: change.write(self.board, token))
        if self._is_failing:
            logger.warning("%r.%s() works again.", self.board, self.source.name)
            self._is_failing = False
        return written

    async def _compute(self) -> Any:
        method = getattr(self.board, self.source.name)
        if inspect.iscoroutinefunction(method):
            limit = asyncio.timeout(self.source.timeout)
            try:
                async with limit:
                    return await method()
            except TimeoutError:
                if limit.expired():
                    raise Hanging(None) from None
                raise
        answer = _in_own_thread(method)
        done, _ = await asyncio.wait({answer}, timeout=self.source.timeout)
        if not done:
            raise Hanging(answer)
        return answer.result()

    def _report(self, text: str, *args: Any, error: Exception | None = None) -> None:
        """Once, until it works again."""
        if not self._is_failing:
            self._is_failing = True
            words = f"%r.%s() {text}"
            logger.error(words, self.board, self.source.name, *args, exc_info=error)


def change_of(board: Board, result: Any) -> Change:
    """What a source returned, as a change. Raises ``InvalidEvent``."""
    kind = board.kind
    if kind == "latest":
        return MapChange({VALUE: encode(result)})
    if kind == "keyed" and isinstance(result, Mapping):
        return rows_change(board, result, whole=True)  # type: ignore[arg-type]
    if kind == "window" and isinstance(result, Mapping):
        return points_change(board, [result])
    if kind == "window" and isinstance(result, Iterable):
        return points_change(board, result)
    if kind == "lines" and isinstance(result, Iterable) and not isinstance(result, str):
        return lines_change(board, result)
    raise InvalidEvent(f"A source of {board!r} cannot return {type(result).__name__}.")


def _in_own_thread(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """A thread that hangs for ever keeps neither others' work nor the process's end waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        finally:
            connections.close_all()  # the thread ends here, and nobody else could
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="django_live-source", daemon=True).start()
    return future
