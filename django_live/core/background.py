"""The event loop of those who have none: one daemon thread per process, for sync callers.

Must keep true: the layer's connections persist between two calls of ``publish()`` (a new loop for each
would open and close them); a forked child makes its own; what is under way is finished before exit.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any

FLUSH_AT_EXIT = 5.0


def _start_thread(target: Any) -> None:
    """A real thread, also under gevent: Django refuses database work in a thread that runs an event
    loop, and a green thread would make every thread look like one."""
    try:
        from gevent.monkey import get_original, is_module_patched
    except ImportError:
        pass
    else:
        if is_module_patched("threading"):
            get_original("_thread", "start_new_thread")(target, ())
            return
    threading.Thread(target=target, name="django_live-background", daemon=True).start()


class BackgroundLoop:
    """Starts with the first piece of work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: asyncio.Lock | None = None
        self._unfinished: set[concurrent.futures.Future[Any]] = set()

    def submit(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Run this after everything submitted before it: a thousand sends at once would overflow
        the layer's buffers (900 of 1,000 were lost), and order would not hold."""
        loop = self._running_loop()
        future = asyncio.run_coroutine_threadsafe(self._in_turn(work), loop)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    async def _in_turn(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._turn is not None
        async with self._turn:
            return await work

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._turn = asyncio.Lock()
                _start_thread(self._loop.run_forever)
            return self._loop

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Wait until what was submitted is done, or the time is over."""
        concurrent.futures.wait(list(self._unfinished), timeout=timeout)

    def forget(self) -> None:
        """In a forked child: the thread did not come along."""
        self.__init__()  # type: ignore[misc]


background = BackgroundLoop()
atexit.register(background.flush)
os.register_at_fork(after_in_child=background.forget)
