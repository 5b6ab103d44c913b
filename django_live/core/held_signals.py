"""Signals that wait while this thread runs an event loop.

Python runs a signal's handler wherever the main thread is just then. What it raises there (a time
limit, Ctrl-C) hits the loop between two steps, a library that forgives its own faults, or a callback of
the garbage collector, and is forgotten. So the handlers wait until the loop has stopped, which a signal
makes it do.

Must keep true: no handler is lost or called twice, and they are the project's again afterwards, also in
a child that another thread has forked meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

_signal: Any = import_module("_signal")
"""What the module `signal` does with numbers and handlers takes 150 µs."""


@contextmanager
def held_signals(wake: Callable[[], object]) -> Iterator[HeldSignals]:
    """Call ``wake`` when a signal comes in this block, and its handler after it. Raises what the
    handler raises. Other threads than the main one hear no signals."""
    held = HeldSignals(wake)
    held.hold()
    try:
        yield held
    finally:
        held.let_go()


class HeldSignals:
    """Stands in the place of each handler that is written in Python."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._process = os.getpid()
        self._is_holding = False
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    def hold(self) -> None:
        """Let them wait from now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._is_holding = True
        for number in _NUMBERS:
            handler = _signal.getsignal(number)
            if callable(handler) and handler is not self:
                self._handlers[number] = handler
                _signal.signal(number, self)

    def hear(self) -> None:
        """Call the handlers of those that came, where whoever holds the others can bear what they
        raise."""
        if self._came:
            self.let_go()
            self.hold()

    def let_go(self) -> None:
        """Put the handlers back, and call those of the signals that came."""
        self._is_holding = False
        try:
            for number, handler in self._handlers.items():
                # From here on one of them may raise. Those that are not in place then come there with
                # their next signal.
                if _signal.getsignal(number) is self:
                    _signal.signal(number, handler)
        finally:
            self._deliver()

    def _deliver(self) -> None:
        if self._came:
            try:
                signal.raise_signal(self._came.pop(0))
            finally:
                self._deliver()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_holding and os.getpid() == self._process:
            self._came.append(number)
            self._wake()
            return
        handler = self._handlers[number]
        if _signal.getsignal(number) is self:
            _signal.signal(number, handler)
        handler(number, frame)


_NUMBERS = [number for number in signal.valid_signals() if number < getattr(signal, "SIGRTMIN", 65)]
"""Of those that time limits, alarms and people send; to look for the real-time ones takes as long again."""
