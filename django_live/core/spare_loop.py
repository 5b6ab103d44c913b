"""The event loop of those who have none: one per process, for sync callers.

Who has something to do runs the loop in its own thread until that is done, and the loop rests between
two callers. A thread that ran it all the time would have to be woken for each call and to wake its
caller after it: with Redis on the same machine these two took a quarter of a ``publish()``. Such a
thread there is only for work that needs one (see ``run``).

Must keep true: the layer's connections persist between two calls of ``publish()`` (a new loop for each
would open and close them); work is done one after the other; a forked child makes its own loop, whoever
forked it, and leaves its parent's alone; what is under way is finished before exit.
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
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .held_signals import HeldSignals, held_signals

FLUSH_AT_EXIT = 5.0
LETTING_GO = 0.2
"""Seconds that work may take to end once it was cancelled."""

T = TypeVar("T")


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
        threading.Thread(target=target, name="django_live-loop", daemon=True).start()
    else:
        start(target, ())


def _has_green_threads() -> bool:
    """Whether a thread that waits for a socket here would keep all others waiting."""
    return _unpatched("_thread", "start_new_thread") is not _thread.start_new_thread


def _runs_a_loop() -> bool:
    """Whether this thread is inside an event loop already. ``publish()`` refuses that; a commit hook
    under DJANGO_ALLOW_ASYNC_UNSAFE, as notebooks set it, comes through."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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

    def __del__(self) -> None:
        """One that was given up ends with the last who knew it, and nobody is warned of that."""
        with suppress(Exception):
            self.close()


class _OfProcess:
    """What one process has."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        """Who holds it runs the loop."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.turn_in_thread: asyncio.Lock | None = None
        """There as soon as a thread runs the loop all the time."""
        self.unfinished: set[concurrent.futures.Future[Any]] = set()


class SpareLoop:
    """Made with the first piece of work."""

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

    def run(
        self, work: Callable[[], Awaitable[T]], timeout: float, *, needs_thread: bool = False
    ) -> T:
        """Do this after everything that came before it: a thousand sends at once would overflow the
        layer's buffers (900 of 1,000 were lost), and order would not hold. What it returns or raises;
        ``TimeoutError`` when that takes longer than ``timeout`` seconds, and then it is cancelled.

        ``needs_thread`` says that it leaves something behind in the loop that has to run. Then, and
        where the caller's thread cannot run the loop, a thread of its own does, from then on.
        """
        own = self._own
        deadline = time.monotonic() + timeout
        if own.turn_in_thread is None:
            # A handler that raises between the lock and the `try` after it would leave it locked.
            with held_signals(partial(_stop, own)) as held:
                if not own.turn.acquire(timeout=timeout):
                    raise TimeoutError("those before it did not end")
                try:
                    if own.turn_in_thread is None:
                        if not (needs_thread or _has_green_threads() or _runs_a_loop()):
                            return _run_here(own, work, deadline - time.monotonic(), held)
                        own.loop = own.loop or _Loop()
                        own.turn_in_thread = asyncio.Lock()
                        _start_thread(own.loop.run_forever)
                finally:
                    own.turn.release()
        future = self._submit(own, work)
        try:
            return future.result(timeout=max(deadline - time.monotonic(), 0))
        except BaseException:
            future.cancel()  # else those that wait behind it would pile up in memory
            raise

    def _submit(
        self, own: _OfProcess, work: Callable[[], Awaitable[T]]
    ) -> concurrent.futures.Future[T]:
        assert own.loop is not None
        # Noted before it is handed on: the thread may be at work before the next line here, and flush() be
        # called. Not under a lock: a signal's handler may publish, too, and would wait for itself.
        handing_on: concurrent.futures.Future[None] = concurrent.futures.Future()
        try:
            own.unfinished.add(handing_on)
            future = asyncio.run_coroutine_threadsafe(_in_turn(own, work), own.loop)
            own.unfinished.add(future)
        finally:
            own.unfinished.discard(handing_on)
            handing_on.set_result(None)
        future.add_done_callback(own.unfinished.discard)
        return future

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Wait until what is under way is done, or the time is over."""
        own = self._own
        deadline = time.monotonic() + timeout
        if own.turn.acquire(timeout=timeout):
            own.turn.release()
        while (waited_for := [one for one in list(own.unfinished) if not one.done()]) and (
            left := deadline - time.monotonic()
        ) > 0:
            concurrent.futures.wait(waited_for, timeout=left)


def _stop(own: _OfProcess) -> None:
    """From a signal's handler."""
    if own.loop is not None:
        own.loop.call_soon_threadsafe(own.loop.stop)


def _run_here(
    own: _OfProcess, work: Callable[[], Awaitable[T]], timeout: float, held: HeldSignals
) -> T:
    loop = own.loop = own.loop or _Loop()
    task = loop.create_task(_after_looking(work))
    try:
        _run_until_done(loop, task, timeout, held)
    finally:
        # Also when a signal's handler has raised: Ctrl-C, a time limit of Celery.
        if not task.done():
            held.hold()
            _let_go(own, loop, task)
    if not task.done() or task.cancelled():
        raise TimeoutError("it did not end in time")
    return task.result()


async def _after_looking(work: Callable[[], Awaitable[T]]) -> T:
    """First the loop notices which connections ended while it rested, and then that they are lost."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return await work()


def _run_until_done(
    loop: asyncio.AbstractEventLoop,
    task: asyncio.Task[Any],
    timeout: float,
    held: HeldSignals | None = None,
) -> None:
    """``held``: signals that are heard meanwhile."""
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        loop.stop()

    def stop(task: asyncio.Task[Any]) -> None:  # noqa: ARG001
        loop.stop()

    timer = loop.call_later(timeout, give_up)
    task.add_done_callback(stop)
    try:
        while not (task.done() or is_late):
            loop.run_forever()
            if held is not None:
                held.hear()
    finally:
        timer.cancel()


def _let_go(own: _OfProcess, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """End work before its time. If it does not end, whatever it holds would be held for ever: then the
    next caller begins with a new loop and new connections."""
    task.cancel()
    try:
        _run_until_done(loop, task, LETTING_GO)
    finally:
        if not task.done():
            own.loop = None


async def _in_turn(own: _OfProcess, work: Callable[[], Awaitable[T]]) -> T:
    assert own.turn_in_thread is not None
    async with own.turn_in_thread:
        return await work()


spare_loop = SpareLoop()
atexit.register(spare_loop.flush)
