"""Work that no caller waits for: one daemon thread per process, which ends when it is idle.

Must keep true: what is asked for twice before it began is done once; a forked child has a thread of its
own; what is under way gets a few seconds at exit.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable

logger = logging.getLogger("django_live.errands")

IDLE = 5.0
"""Seconds after which the thread ends."""
FLUSH_AT_EXIT = 5.0


class _OfProcess:
    """What one process has."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: OrderedDict[str, None] = OrderedDict()
        self.is_running = False
        self.is_busy = False


class Errands:
    """Calls ``work(what)`` for what it is asked."""

    def __init__(self, work: Callable[[str], None]) -> None:
        self._work = work
        # By process, and looked up at each call: uWSGI forks without Python's hooks.
        self._by_process: dict[int, _OfProcess] = {}
        atexit.register(self.flush)

    @property
    def _own(self) -> _OfProcess:
        process = os.getpid()
        own = self._by_process.get(process)
        return own if own is not None else self._by_process.setdefault(process, _OfProcess())

    def ask(self, what: str) -> None:
        """Have this done soon."""
        own = self._own
        with own.changed:
            own.waiting[what] = None
            if not own.is_running:
                own.is_running = True
                threading.Thread(
                    target=self._run, args=(own,), name="django_live-errands", daemon=True
                ).start()
            own.changed.notify_all()

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> bool:
        """Wait until all that was asked for is done, or the time is over; whether it is done."""
        own = self._own
        with own.changed:
            return own.changed.wait_for(lambda: not own.waiting and not own.is_busy, timeout)

    def _run(self, own: _OfProcess) -> None:
        while True:
            with own.changed:
                if not own.waiting and not own.changed.wait_for(lambda: own.waiting, IDLE):
                    own.is_running = False
                    return
                what, _ = own.waiting.popitem(last=False)
                own.is_busy = True
            try:
                self._work(what)
            except Exception:
                logger.exception("What was left to the background (%s) failed.", what)
            finally:
                with own.changed:
                    own.is_busy = False
                    own.changed.notify_all()
