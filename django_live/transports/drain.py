"""Leaving: when the process is told to stop, streams end first.

A server such as uvicorn waits at SIGTERM for its open responses, and an open stream never ends by
itself: the process would hang. Others cut their streams at once. So the signal is caught before the
server's own handler: every client is asked to come back (to another process, or to this one's
successor), then the server gets its signal.

Servers hear signals in two ways. uvicorn, its gunicorn worker and Daphne have a plain handler, which can
be called later. granian and hypercorn leave it to the event loop: asyncio tells what it would have run;
uvloop does not, there SIGINT, which they take as they take SIGTERM, stands for it and is left alone.

Must keep true: a second signal goes to the server at once, and nobody is waited for any longer; where
the server's handler cannot be put off, nothing is changed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from ..conf import live_settings
from ..core.runtime import running_runtime

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], Any]
PassOn = Callable[[], Any]


class Leaving:
    """What one event loop does when its process is told to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak: this is kept by the loop, and must not keep it.
        self._loop = weakref.ref(loop)
        self._begun = False
        self._passed_on = False
        self.of_the_loop: set[int] = set()
        """Signals that the event loop hears for us."""

    def told(self, signum: int, pass_on: PassOn) -> None:
        """A signal came. ``pass_on`` is what the server would have done; also called from a signal
        handler, in the middle of anything."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            pass_on()
        elif self._begun:
            self._passed_on = True
            loop.call_soon_threadsafe(self._hurry)
            pass_on()
        else:
            self._begun = True
            loop.call_soon_threadsafe(self._drain, signum, pass_on)

    def _drain(self, signum: int, pass_on: PassOn) -> None:
        live = running_runtime()
        if live is None:  # its settings do not work
            self._drained(pass_on)
            return
        # Who presses Ctrl-C is waiting.
        window = live_settings().DRAIN if signum == signal.SIGTERM else 0.0
        live.drain(window).add_done_callback(lambda _: self._drained(pass_on))

    def _drained(self, pass_on: PassOn) -> None:
        # Some servers take the second signal for more than the first.
        if not self._passed_on:
            self._passed_on = True
            pass_on()

    def _hurry(self) -> None:
        live = running_runtime()
        if live is not None:
            live.hurry()


class DrainFirst:
    """A signal handler that drains this loop's streams and then does what the one before it did."""

    def __init__(self, before: Handler, leaving: Leaving) -> None:
        self._before = before
        self._leaving = leaving

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._leaving.told(signum, partial(self._before, signum, None))


_leaving: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Leaving]
_leaving = weakref.WeakKeyDictionary()


def install() -> None:
    """Put the drain before the server's handlers, once. Call it in the running event loop."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    leaving = _leaving.setdefault(loop, Leaving(loop))
    for signum in SIGNALS:
        before: Any = signal.getsignal(signum)
        module = getattr(before, "__module__", None) or ""
        if isinstance(before, DrainFirst) or not callable(before):
            continue
        if module.startswith("uvloop"):
            _before_uvloop(loop, leaving, signum)
        elif module.startswith("asyncio"):
            _before_asyncio(loop, leaving, signum)
        elif before is not signal.default_int_handler:
            signal.signal(signum, DrainFirst(before, leaving))


def _before_asyncio(loop: Any, leaving: Leaving, signum: int) -> None:
    handle = getattr(loop, "_signal_handlers", {}).get(signum)
    if handle is None or signum in leaving.of_the_loop:
        return
    if _waits_by_itself():
        _beside(leaving, signum)
        return
    leaving.of_the_loop.add(signum)
    pass_on = handle._run  # noqa: SLF001 -- no other way leads to what the server gave the loop
    loop.add_signal_handler(signum, leaving.told, signum, pass_on)


def _before_uvloop(loop: asyncio.AbstractEventLoop, leaving: Leaving, signum: int) -> None:
    if signum != signal.SIGTERM or signum in leaving.of_the_loop:
        return
    if _waits_by_itself():
        _beside(leaving, signum)
        return
    leaving.of_the_loop.add(signum)
    pass_on = partial(os.kill, os.getpid(), signal.SIGINT)
    loop.add_signal_handler(signum, leaving.told, signum, pass_on)


def _waits_by_itself() -> bool:
    """Whether this is a worker of gunicorn's own for ASGI. It waits ``graceful_timeout`` for its
    responses, and takes SIGINT for an order to wait for nothing."""
    return "gunicorn.workers.gasgi" in sys.modules


def _beside(leaving: Leaving, signum: int) -> None:
    """Hear a signal together with the event loop, which hears it by another way, at the same time."""
    if signum == signal.SIGTERM:
        signal.signal(signum, DrainFirst(lambda number, frame: None, leaving))
