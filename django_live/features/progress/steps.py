"""What a job counts: itself and the steps in it.

Must keep true: nothing goes backwards; an update costs the job a few microseconds and no input or
output; nothing that it is given makes it raise.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from django.db.models import QuerySet

from . import bounds
from .ledger import Ledger

T = TypeVar("T")


class Cancelled(Exception):
    """Somebody asked the job to stop. The ``with`` of the ``Progress`` takes it."""


class Counter:
    """Counts up to a total, or up to nobody knows what. A step of it is so many units of its own."""

    def __init__(self, title: str, total: Any, ledger: Ledger) -> None:
        self.title = bounds.text(title, bounds.TITLE)
        self.ledger = ledger
        """What the whole job has in common."""
        self._lock = ledger.lock
        self._done: float | int = 0
        self._total = self._number_or_unknown(total)
        self._message = ""
        self._fields: dict[str, Any] = {}
        self._steps: list[Step] = []
        self._best: float | None = None

    # -- what a job says ---------------------------------------------------------------------------

    def advance(self, amount: Any = 1, message: Any = None, **fields: Any) -> None:
        """So much more is done. ``fields`` are what else viewers may know: anything that is JSON."""
        if type(amount) is not int or not 0 <= amount <= bounds.LARGEST:
            amount = self._number(amount)
        with self._lock:
            self._done += amount
        if message is not None or fields:
            self._say(message, fields)
        self.ledger.changed = True

    def update(
        self, done: Any = None, message: Any = None, *, total: Any = ..., **fields: Any
    ) -> None:
        """So much is done in all, or is to be done. ``total=None``: nobody knows how much. Less than was
        done before is passed over."""
        if done is not None:
            value = self._number(done)
            with self._lock:
                self._done = max(self._done, value)
        if total is not ...:
            self._total = self._number_or_unknown(total)
        if message is not None or fields:
            self._say(message, fields)
        self.ledger.changed = True

    def log(self, line: Any, level: str = "info") -> None:
        """A line for the job's log, which its viewers see: at most 500 characters, the last 100 stay."""
        self.ledger.add_line(bounds.text(line, bounds.LINE), level)

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` if somebody asked the job to stop."""
        if self.ledger.cancelled:
            raise Cancelled

    def track(self, items: Iterable[T] | AsyncIterable[T], total: Any = ...) -> Tracked[T]:
        """The same items, counted as they are done: for ``for`` and for ``async for``. Looks whether
        the job is to stop before each. The total is taken from what has a length."""
        if total is ...:
            total = _length(items) if self._total is None else ...
        if total is not ...:
            self.update(total=total)
        return Tracked(self, items)

    def step(self, title: str, total: Any = None, *, weight: float = 1) -> Step:
        """A part of it, for ``with`` or ``async with``: ``weight`` units of what it counts. A step has
        all that the job has."""
        return Step(self, title, total, self._number(weight))

    # -- what viewers see --------------------------------------------------------------------------

    @property
    def done(self) -> float | int:
        return self._done

    @property
    def total(self) -> float | int | None:
        return self._total

    @property
    def reached(self) -> float | int:
        """What is done, and the share of the steps that run."""
        with self._lock:
            done, steps = self._done, list(self._steps)
        share = sum(step.weight * (step.fraction or 0.0) for step in steps)
        return round(done + share, 3) if share else done

    @property
    def fraction(self) -> float | None:
        """0 to 1; None where nobody knows. It never falls, also where the total grows."""
        if self._total is not None and self._total > 0:
            self._best = max(self._best or 0.0, min(1.0, self.reached / self._total))
        return self._best if self._total is not None else None

    def active_steps(self) -> Iterator[Step]:
        """Its steps that have begun, each before those in it."""
        with self._lock:
            steps = list(self._steps)
        for step in steps:
            yield step
            yield from step.active_steps()

    # -- inside ------------------------------------------------------------------------------------

    def begin_step(self, step: Step) -> None:
        """A step of it has begun; the step itself says so."""
        with self._lock:
            self._steps.append(step)
        self.ledger.changed = True

    def end_step(self, step: Step, share: float) -> None:
        """A step of it has ended, and these units with it."""
        with self._lock:
            if step in self._steps:
                self._steps.remove(step)
                self._done += share
        self.ledger.changed = True

    def _say(self, message: Any, fields: dict[str, Any]) -> None:
        if message is not None:
            self._message = bounds.text(message, bounds.MESSAGE)
        if fields:
            with self._lock:
                self._fields = {**self._fields, **fields}

    def _number(self, value: Any) -> float | int:
        found = bounds.number(value)
        if found is None:
            self.ledger.complain(f"{value!r} is no amount")
            return 0
        return found

    def _number_or_unknown(self, value: Any) -> float | int | None:
        if value is None:
            return None
        found = bounds.number(value)
        if found is None:
            self.ledger.complain(f"{value!r} is no total")
        return found


class Step(Counter):
    """A part of a job, or of another step."""

    def __init__(self, parent: Counter, title: str, total: Any, weight: float) -> None:
        self.parent = parent
        self.weight = weight
        super().__init__(title, total, parent.ledger)

    def view(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "done": self.reached,
            "total": self._total,
            "fraction": self.fraction,
            "message": self._message,
        }

    def __enter__(self) -> Self:
        self.check_cancelled()
        self.parent.begin_step(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        share = self.weight if error is None else self.weight * (self.fraction or 0.0)
        self.parent.end_step(self, share)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


class Tracked(Generic[T]):
    """What ``track()`` gives."""

    def __init__(self, counter: Counter, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._counter = counter
        self._items = items

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # TypeError where it has none, as anywhere

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._items, Iterable):
            raise TypeError("These items come asynchronously: use `async for`.")
        for item in self._items:
            self._counter.check_cancelled()
            yield item
            self._counter.advance()

    async def __aiter__(self) -> AsyncIterator[T]:
        async for item in _asynchronous(self._items):
            self._counter.check_cancelled()
            yield item
            self._counter.advance()


async def _asynchronous(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for one in items:
            yield one


def _length(items: Any) -> Any:
    """How many there are, where that can be known without a query; else None."""
    if isinstance(items, QuerySet):  # its length would load it
        known = items._result_cache  # noqa: SLF001
        return len(known) if known is not None else None
    return len(items) if isinstance(items, Sized) else None
