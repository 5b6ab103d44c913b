"""The event loop of those who have none: one daemon thread per process, for sync callers.

Must keep true: the layer's connections persist between two calls of ``publish()`` (a new loop for each
would open and close them); a forked child makes its own, whoever forked it, and leaves its parent's
alone; what is under way is finished before exit.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import concurrent.futures
import importlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

FLUSH_AT_EXIT = 5.0


def _unpatched(module: str, name: str) -> Any:
    """What it is when gevent has not replaced it."""
    if "gevent.monkey" in sys.modules:
        from gevent.monkey import get_original

        return get_original(module, name)
    return getattr(importlib.import_module(module), name)


def _start_thread(target: Callable[[], None]) -> None:
    """A real thread, also under gevent: Django refuses database work in a thread that runs an event
    loop, and a green thread would make every thread look like one."""
    start = _unpatched("_thread", "start_new_thread")
    if start is _thread.start_new_thread:
        threading.Thread(target=target, name="django_live-background", daemon=True).start()
    else:
        start(target, ())


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in place. asyncio does it in threads, which Python has ended when the process
    flushes at its exit, and which are green under gevent. Nothing else waits in this loop: its work is
    done one after the other.

    Under gevent it waits for sockets as if gevent were not there: gevent's selector wants a hub in this
    thread, and ends the loop when there is nothing to wait for.
    """

    def __init__(self) -> None:
        super().__init__(_unpatched("selectors", "DefaultSelector")())

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return _unpatched("socket", "getaddrinfo")(host, port, **options)


class _OfProcess:
    """What one process has."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.turn: asyncio.Lock | None = None
        self.unfinished: set[concurrent.futures.Future[Any]] = set()


class BackgroundLoop:
    """Starts with the first piece of work."""

    def __init__(self) -> None:
        # By process, and looked up at each call: uWSGI forks without Python's hooks. A parent's entry
        # stays in its child for ever: were its loop or a connection of it collected there, that would
        # take the parent's sockets out of the epoll that the two share.
        self._by_process: dict[int, _OfProcess] = {}

    @property
    def _own(self) -> _OfProcess:
        process = os.getpid()
        own = self._by_process.get(process)
        # No lock, which a fork may have copied locked; and setdefault() is one step.
        return own if own is not None else self._by_process.setdefault(process, _OfProcess())

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """This process's loop; None as long as there was nothing to do."""
        return self._own.loop

    def submit(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Run this after everything submitted before it: a thousand sends at once would overflow
        the layer's buffers (900 of 1,000 were lost), and order would not hold."""
        own = self._own
        with own.lock:
            if own.loop is None:
                own.turn = asyncio.Lock()
                own.loop = _Loop()
                _start_thread(own.loop.run_forever)
            future = asyncio.run_coroutine_threadsafe(_in_turn(own, work), own.loop)
            own.unfinished.add(future)
        future.add_done_callback(own.unfinished.discard)
        return future

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Wait until what was submitted is done, or the time is over."""
        concurrent.futures.wait(list(self._own.unfinished), timeout=timeout)


async def _in_turn(own: _OfProcess, work: Coroutine[Any, Any, Any]) -> Any:
    assert own.turn is not None
    async with own.turn:
        return await work


background = BackgroundLoop()
atexit.register(background.flush)
