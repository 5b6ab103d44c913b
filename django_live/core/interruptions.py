"""What a signal handler of the project raises: a time limit of a task, an alarm.

Such an exception comes from wherever the main thread is just then, and Celery's is an ordinary
``Exception``. Code that forgives faults of a layer or a store would forgive it as well, and the task
would go on beyond its limit.

Must keep true: it reaches the caller, whatever it hit.
"""

from __future__ import annotations

import signal
from functools import partial
from types import CodeType
from typing import Any


def raise_interruption(error: BaseException) -> None:
    """Raise what a signal handler has raised, if that is why there is this error: itself, or what was
    made of it on its way."""
    found = _interruption_in(error)
    if found is not None:
        try:
            raise found
        finally:
            # Else error, traceback and this frame would hold one another, and all frames below.
            del error, found


def is_interruption(error: BaseException) -> bool:
    """Whether ``raise_interruption()`` would raise."""
    return _interruption_in(error) is not None


def _interruption_in(error: BaseException | None) -> BaseException | None:
    handlers = _handlers()
    seen: set[int] = set()
    while handlers and error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in handlers:
                return error
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return None


def _handlers() -> frozenset[CodeType]:
    """The code of those that are installed now."""
    codes = (_code_of(signal.getsignal(number)) for number in signal.valid_signals())
    return frozenset(code for code in codes if code is not None)


def _code_of(handler: Any) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = vars(type(handler)).get("__call__")
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
