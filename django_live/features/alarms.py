"""When this process has to look again for changes that had to wait: one timer per database.

Only for promptness: what waits is in the database, and any sweep of any process finds it. A site
without a process that sweeps, WSGI alone, has this.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from django.db import connections

_lock = threading.Lock()
_set: dict[tuple[int, str], threading.Timer] = {}
"""By process, which may have been forked, and database."""
_times: dict[tuple[int, str], float] = {}
_ringing: set[threading.Timer] = set()


def wake(using: str, delay: float, work: Callable[[], None]) -> None:
    """Do the work after so many seconds, in a thread of its own; sooner if that was asked for
    already. The thread's database connections are closed after it."""
    place = os.getpid(), using
    when = time.monotonic() + delay
    with _lock:
        known = _set.get(place)
        if known is not None:
            if _times[place] <= when:
                return
            known.cancel()
        timer = threading.Timer(delay, lambda: _ring(place, timer, work))
        timer.daemon = True
        timer.name = "django_live-alarm"
        _set[place], _times[place] = timer, when
    timer.start()


def silence() -> None:
    """For tests: forget what was asked for, and wait for what is being done."""
    with _lock:
        timers = [*_set.values(), *_ringing]
        _set.clear()
    for timer in timers:
        timer.cancel()
        timer.join()


def _ring(place: tuple[int, str], timer: threading.Timer, work: Callable[[], None]) -> None:
    with _lock:
        if _set.get(place) is timer:
            del _set[place]
        _ringing.add(timer)
    try:
        work()
    finally:
        connections.close_all()
        with _lock:
            _ringing.discard(timer)
