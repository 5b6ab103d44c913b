"""Leaving: when the process is told to stop, streams end first.

A server such as uvicorn waits at SIGTERM for its open responses, and an open stream never ends by
itself: the process would hang. So the signal is caught before the server's own handler: every client
is asked to come back (to another process, or to this one's successor), then the server gets its signal.

Must keep true: a second signal goes to the server at once; without a handler of the server's that can
be put off, nothing is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..core.runtime import runtime

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], Any]


class DrainFirst:
    """A signal handler that drains this loop's streams and then does what the one before it did."""

    def __init__(self, before: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._before = before
        self._loop = loop
        self._begun = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._begun or self._loop.is_closed():
            self._before(signum, frame)
            return
        self._begun = True
        self._loop.call_soon_threadsafe(self._drain, signum)

    def _drain(self, signum: int) -> None:
        draining = runtime().drain()
        draining.add_done_callback(lambda _: self._before(signum, None))


def install() -> None:
    """Put the drain before the server's handlers, once. Call it in the running event loop."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for signum in SIGNALS:
        before = signal.getsignal(signum)
        # asyncio's own (add_signal_handler) and Python's default are no handlers one can call later.
        if callable(before) and not isinstance(before, DrainFirst) and _is_of_server(before):
            with contextlib.suppress(ValueError):
                signal.signal(signum, DrainFirst(before, loop))


def _is_of_server(handler: Any) -> bool:
    module = getattr(handler, "__module__", "") or ""
    return handler is not signal.default_int_handler and not module.startswith(
        ("asyncio", "signal")
    )
