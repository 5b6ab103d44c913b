"""What holds for a block holds no longer than that, whatever a signal's handler raises, wherever it hits."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

import pytest

from django_live.core import allowance as allowances
from django_live.core.allowance import Allowance
from django_live.core.blocks import BlockVariable
from django_live.core.commits import putting_off, tell_of_commit
from django_live.core.headway import followed_by, made
from django_live.features.changes import suppress
from django_live.features.hearing import silent

number = BlockVariable[int]("number", default=0)


class TimeLimit(Exception):
    pass


def interrupted(work: Callable[[], None], after: int) -> bool:
    """Whether a handler that raises after so many instructions of Python has hit the work."""
    left = after

    def limit(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                raise TimeLimit
        return limit

    before = sys.gettrace()
    gc.disable()  # what others do when it collects is Python, too
    sys.settrace(limit)
    try:
        work()
    except TimeLimit:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


def at_each_moment(work: Callable[[], None], check: Callable[[], None]) -> int:
    """Interrupt the work once at each instruction, and check each time; how many there are."""
    after = 0
    while interrupted(work, after):
        check()
        after += 1
    check()
    return after


def enter(block: Callable[[], AbstractContextManager[Any]]) -> Callable[[], None]:
    def work() -> None:
        with block():
            pass

    return work


def test_blocks_lie_in_one_another() -> None:
    assert number.get() == 0
    with number.holding(1) as held:
        assert held == number.get() == 1
        with number.holding(2):
            assert number.get() == 2
        assert number.get() == 1
    assert number.get() == 0


def test_an_error_ends_a_block() -> None:
    with pytest.raises(LookupError), number.holding(1):
        raise LookupError
    assert number.get() == 0


def test_what_was_begun_in_a_block_ends_with_it() -> None:
    """A task, or a thread with a copy of the context."""

    async def main() -> list[int]:
        over = asyncio.Event()

        async def look() -> list[int]:
            first = number.get()
            await over.wait()
            return [first, number.get()]

        with number.holding(1):
            task = asyncio.create_task(look())
            await asyncio.sleep(0)
        over.set()
        return await task

    assert asyncio.run(main()) == [1, 0]

    seen: list[int] = []
    with number.holding(3):
        copy = contextvars.copy_context()
        thread = threading.Thread(target=lambda: seen.append(copy.run(number.get)))
        thread.start()
        thread.join()
    assert [*seen, copy.run(number.get)] == [3, 0]


def test_the_injector_hits() -> None:
    """Negative control: set before the block and reset after it, as one would write it."""
    variable = contextvars.ContextVar("variable", default=0)

    @contextmanager
    def block() -> Iterator[None]:
        token = variable.set(1)
        try:
            yield
        finally:
            variable.reset(token)

    stayed = 0

    def look() -> None:
        nonlocal stayed
        stayed += variable.get()
        variable.set(0)

    assert at_each_moment(enter(block), look) > 20
    assert stayed


def nobody_waits() -> None:
    assert allowances._of_caller.get() is None


def nothing_is_silent() -> None:
    assert silent.get() == ()


def nobody_follows() -> None:
    made(1)


def follow() -> AbstractContextManager[None]:
    def tell(_count: int) -> None:
        raise AssertionError("somebody still follows")

    return followed_by(tell)


def what_is_committed_is_told() -> None:
    told: list[int] = []
    tell_of_commit(lambda: told.append(1))
    assert told


@pytest.mark.parametrize(
    ("block", "check"),
    [
        (lambda: number.holding(1), lambda: None),
        (lambda: Allowance().in_force(), nobody_waits),
        (suppress, nothing_is_silent),
        (follow, nobody_follows),
        (putting_off, what_is_committed_is_told),
    ],
    ids=["itself", "allowance", "suppress", "headway", "putting off"],
)
def test_a_time_limit_at_any_moment(
    block: Callable[[], AbstractContextManager[Any]], check: Callable[[], None]
) -> None:
    def both() -> None:
        assert number.get() == 0
        check()

    assert at_each_moment(enter(block), both) > 20
