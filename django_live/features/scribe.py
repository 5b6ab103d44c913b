"""Writes down what jobs and token streams have to say: one thread per process for all of them.

Whoever reports leaves its words with its source and goes on; the scribe comes by, and publishes what
all of them have in as few round trips as the store can do.

Must keep true: nobody who reports waits for store or layer, or hears of their faults; what one source
says keeps its order and arrives once, whatever is tried again; what is under way gets a few seconds at
exit; a forked child has a scribe of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from django.db import connections

from ..core.publishing import publish_many
from ..core.store_threads import own_transactions
from ..exceptions import InvalidEvent
from .liveness import BEAT, beat

logger = logging.getLogger("django_live.scribe")

IDLE = 5.0
"""Seconds after which the thread ends."""
TOGETHER = 0.01
"""Seconds by which a source may be early, so that it is written along with others."""
AGAIN = (0.25, 2.0)
"""Seconds after a fault before it is tried again: at first, and at most."""
GIVE_UP = 60.0
"""Seconds after its end that a source is still tried to be written."""
HELPERS = 2
"""Threads, and database connections, that begin, settle and give signs of life at the same time."""
FLUSH_AT_EXIT = 5.0
LATEST = float("inf")


class Source(ABC):
    """One who reports. Everything abstract here is called by the scribe's threads, outside of every
    transaction; what it raises is logged, and it is called again."""

    def __init__(self, id: str, lease: float, patience: float | None = None) -> None:
        self.id = id
        self.lease = lease
        self.patience = patience
        """Seconds without a word after which the source counts as gone; None: no bound."""
        self.claim = 0
        """The version of its entry among those that are alive: the fencing token it goes by."""
        self.heard = time.monotonic()
        self.ready = False
        self.due = LATEST
        """When the scribe is to come by, by ``time.monotonic()``."""
        self.over: float | None = None
        """When its last word was said."""
        self.written: Future[None] = Future()
        """Done when its last word is written, or given up."""

    @abstractmethod
    def begin(self) -> None:
        """Claim what is needed before the first word."""

    @abstractmethod
    def collect(self, now: float) -> Sequence[dict[str, Any]]:
        """What is to be published now, items as of ``publish_many()``; sets ``due``. It is asked for
        again until it was published."""

    @abstractmethod
    def published(self, items: Sequence[dict[str, Any]]) -> bool:
        """These are published. Whether that was the last word."""

    @abstractmethod
    def settle(self) -> None:
        """After the last word."""

    @abstractmethod
    def cancel(self) -> None:
        """Somebody asked it to stop."""

    @abstractmethod
    def superseded(self) -> None:
        """Somebody else goes by its id: a task that was tried again."""

    def fell_silent(self) -> None:  # noqa: B027  most have nothing to say to it
        """It said nothing for longer than its patience."""

    def tend(self, now: float) -> None:  # noqa: B027  most need none
        """Called twice a second, by a helper: for what no word may wait for."""

    @property
    def is_silent(self) -> bool:
        return self.patience is not None and time.monotonic() - self.heard > self.patience


class _OfProcess:
    """What one process has."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sources: dict[Source, None] = {}
        self.is_running = False
        self.wake_at = LATEST
        self.failing = 0
        self.beating = False
        self.turn = threading.BoundedSemaphore(HELPERS)


class Scribe:
    """Starts with the first source."""

    def __init__(self) -> None:
        # By process, and looked up at each call: uWSGI forks without Python's hooks.
        self._by_process: dict[int, _OfProcess] = {}
        atexit.register(self.flush)

    @property
    def _own(self) -> _OfProcess:
        process = os.getpid()
        own = self._by_process.get(process)
        return own if own is not None else self._by_process.setdefault(process, _OfProcess())

    @property
    def is_failing(self) -> bool:
        """Whether store or layer did not take the last words."""
        return self._own.failing > 0

    def add(self, source: Source) -> None:
        own = self._own
        with own.changed:
            own.sources[source] = None
            if not own.is_running:
                own.is_running = True
                threading.Thread(
                    target=self._run, args=(own,), name="django_live-scribe", daemon=True
                ).start()
        self._help(own, lambda: self._begin(own, source))

    def wake(self, source: Source, after: float = 0.0) -> None:
        """Come by in so many seconds, at the latest."""
        due = time.monotonic() + after
        if due >= source.due:
            return
        source.due = due
        own = self._own
        if due < own.wake_at:
            with own.changed:
                own.wake_at = due
                own.changed.notify_all()

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Wait until all who have said their last word are written, or the time is over."""
        until = time.monotonic() + timeout
        own = self._own
        for source in [one for one in list(own.sources) if one.over is not None]:
            if own.failing > 1:  # nobody is there to take it
                return
            try:
                source.written.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                return

    # -- the thread --------------------------------------------------------------------------------

    def _run(self, own: _OfProcess) -> None:
        with own_transactions():
            next_beat = time.monotonic() + BEAT
            while self._wait(own, next_beat):
                now = time.monotonic()
                self._write(own, now)
                if now >= next_beat:
                    next_beat = now + BEAT
                    if not own.beating:
                        own.beating = True
                        self._help(own, lambda: self._beat(own))

    def _wait(self, own: _OfProcess, next_beat: float) -> bool:
        """Until somebody is due. False: nobody is there any more."""
        with own.changed:
            if not own.sources:
                connections.close_all()
                own.failing = 0
                own.wake_at = LATEST
                if not own.changed.wait_for(lambda: own.sources, IDLE):
                    own.is_running = False
                    return False
            own.wake_at = min((s.due for s in own.sources if s.ready), default=LATEST)
            own.wake_at = min(own.wake_at, next_beat)
            wait = own.wake_at - time.monotonic()
            if wait > 0:
                own.changed.wait_for(lambda: own.wake_at <= time.monotonic(), wait)
        return True

    def _write(self, own: _OfProcess, now: float) -> None:
        due = [s for s in list(own.sources) if s.ready and s.due <= now + TOGETHER]
        if due:
            self._write_of(own, due, now)

    def _write_of(self, own: _OfProcess, due: Sequence[Source], now: float) -> None:
        collected: list[tuple[Source, Sequence[dict[str, Any]]]] = []
        try:
            collected = [(source, source.collect(now)) for source in due]
            items = [item for _, said in collected for item in said]
            if items:
                publish_many(items, on_commit=False)
        except InvalidEvent as error:
            # Of one of them, and it will never be an event: the others must not wait for it.
            if len(due) > 1:
                for source in due:
                    self._write_of(own, [source], now)
                return
            if not collected:
                self._failed(own, due, now, error)
                return
            logger.exception("Something of %s cannot be sent, and is left out.", due[0].id)
        except Exception as error:
            self._failed(own, due, now, error)
            return
        self._recovered(own)
        for source, said in collected:
            if source.published(said):
                self._retire(own, source, source.settle)

    def _failed(self, own: _OfProcess, due: Iterable[Source], now: float, error: Exception) -> None:
        own.failing += 1
        if own.failing == 1:
            logger.warning(
                "What jobs and streams report cannot be written (%s: %s). They go on, and it is tried "
                "again and again.",
                error.__class__.__name__,
                error,
            )
        connections.close_all()
        again = min(AGAIN[1], AGAIN[0] * 2 ** min(own.failing - 1, 8))
        for source in due:
            source.due = now + again
            if source.over is not None and now - source.over > GIVE_UP:
                logger.error("The end of %s could not be written.", source.id)
                self._retire(own, source, lambda: None)

    @staticmethod
    def _recovered(own: _OfProcess) -> None:
        if own.failing:
            logger.warning("What jobs and streams report can be written again.")
        own.failing = 0

    # -- the helpers -------------------------------------------------------------------------------

    @staticmethod
    def _help(own: _OfProcess, work: Callable[[], None], after: float = 0.0) -> None:
        def run() -> None:
            try:
                with own.turn, own_transactions():
                    work()
            except Exception:
                logger.exception("A helper of the scribe failed.")
            finally:
                connections.close_all()

        # No pool: Python waits for the threads of pools before it lets a process end.
        helper = threading.Timer(after, run) if after else threading.Thread(target=run)
        helper.daemon = True
        try:
            helper.start()
        except RuntimeError:  # the interpreter is on its way out, and begins no thread
            run()

    def _begin(self, own: _OfProcess, source: Source, attempt: int = 0) -> None:
        try:
            source.begin()
        except Exception as error:
            self._failed(own, (), time.monotonic(), error)
            if source.over is not None and time.monotonic() - source.over > GIVE_UP:
                self._retire(own, source, lambda: None)
            else:
                pause = min(AGAIN[1], AGAIN[0] * 2 ** min(attempt, 8))
                self._help(own, lambda: self._begin(own, source, attempt + 1), pause)
        else:
            source.ready = True
            source.due = LATEST
            self.wake(source)

    def _retire(self, own: _OfProcess, source: Source, settle: Callable[[], None]) -> None:
        source.ready = False

        def last() -> None:
            try:
                settle()
            except Exception:
                logger.exception("The end of %s could not be settled.", source.id)
            finally:
                with own.changed:
                    own.sources.pop(source, None)
                    own.changed.notify_all()
                if not source.written.done():
                    source.written.set_result(None)

        self._help(own, last)

    def _beat(self, own: _OfProcess) -> None:
        try:
            living = [source for source in list(own.sources) if source.ready]
            beat(living)
            for source in living:
                source.tend(time.monotonic())
        except Exception as error:
            logger.debug("The signs of life could not be given.", exc_info=error)
        finally:
            own.beating = False


scribe = Scribe()
"""This process's."""
