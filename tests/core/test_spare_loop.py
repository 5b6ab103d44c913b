"""The loop of those who have none: their own thread runs it, one after the other, anew in a forked child;
a thread of its own where that cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from django_live.core import spare_loop as module
from django_live.core.spare_loop import SpareLoop


@pytest.fixture
def spare() -> Iterator[SpareLoop]:
    spare = SpareLoop()
    yield spare
    spare.flush()
    if spare.loop is not None:
        loop = spare.loop
        if loop.is_running():
            loop.call_soon_threadsafe(loop.stop)
        while loop.is_running():
            threading.Event().wait(0.001)
        loop.close()


both_ways = pytest.mark.parametrize("needs_thread", [False, True])


async def which() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


def in_threads(work: Any, count: int) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)


def test_nothing_is_there_before_it_is_needed(spare: SpareLoop) -> None:
    assert spare.loop is None
    spare.flush()


def test_the_caller_runs_it_and_no_thread_is_made(spare: SpareLoop) -> None:
    before = threading.enumerate()
    found = [spare.run(which, 5) for _ in range(3)]
    assert {thread for _, thread in found} == {threading.current_thread()}
    assert len({loop for loop, _ in found}) == 1
    assert threading.enumerate() == before


def test_what_needs_a_loop_that_runs_gets_one_and_others_share_it(spare: SpareLoop) -> None:
    ticks: list[int] = []

    async def leave_something_behind() -> None:
        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        spare.ticking = asyncio.ensure_future(tick())  # type: ignore[attr-defined]

    first, _ = spare.run(which, 5)
    spare.run(leave_something_behind, 5, needs_thread=True)
    limit = time.monotonic() + 5
    while len(ticks) < 3:  # nobody calls
        assert time.monotonic() < limit
        threading.Event().wait(0.001)
    loop, thread = spare.run(which, 5)
    assert loop is first
    assert thread is not threading.current_thread()

    async def end() -> None:
        spare.ticking.cancel()  # type: ignore[attr-defined]

    spare.run(end, 5)


def test_a_caller_whose_thread_runs_a_loop_already(spare: SpareLoop) -> None:
    """A commit hook in a notebook."""

    async def cell() -> threading.Thread:
        _, thread = spare.run(which, 5)
        return thread

    assert asyncio.run(cell()) is not threading.current_thread()


@both_ways
def test_work_is_done_one_after_the_other_in_the_order_of_its_coming(
    spare: SpareLoop, needs_thread: bool
) -> None:
    done: list[tuple[int, int]] = []
    running = 0

    async def work(caller: int, number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        done.append((caller, number))
        running -= 1

    def call(caller: int) -> None:
        for number in range(50):
            spare.run(partial(work, caller, number), 10, needs_thread=needs_thread)

    in_threads(call, 8)
    assert sorted(done) == [(caller, number) for caller in range(8) for number in range(50)]
    for caller in range(8):
        assert [number for one, number in done if one == caller] == list(range(50))


@both_ways
def test_every_caller_shares_one_loop(spare: SpareLoop, needs_thread: bool) -> None:
    found = []
    in_threads(lambda n: found.append(spare.run(which, 5, needs_thread=needs_thread)), 8)
    assert len(found) == 8
    assert len({loop for loop, _ in found}) == 1


@both_ways
def test_what_fails_is_told_to_its_caller_and_stops_nobody(
    spare: SpareLoop, needs_thread: bool
) -> None:
    async def fails() -> None:
        raise LookupError("no")

    loop, _ = spare.run(which, 5, needs_thread=needs_thread)
    with pytest.raises(LookupError):
        spare.run(fails, 5, needs_thread=needs_thread)
    assert spare.run(which, 5, needs_thread=needs_thread)[0] is loop


@both_ways
def test_what_takes_too_long_is_cancelled(spare: SpareLoop, needs_thread: bool) -> None:
    ended = threading.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop, _ = spare.run(which, 5, needs_thread=needs_thread)
    with pytest.raises(TimeoutError):
        spare.run(hangs, 0.02, needs_thread=needs_thread)
    assert spare.run(which, 5, needs_thread=needs_thread)[0] is loop
    assert ended.is_set()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_does_not_let_go_holds_up_nobody_after_it(
    spare: SpareLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LETTING_GO", 0.02)
    release = False

    async def clings() -> None:
        while not release:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    stuck, _ = spare.run(which, 5)
    with pytest.raises(TimeoutError):
        spare.run(clings, 0.02)
    loop, _ = spare.run(which, 5)
    assert loop is not stuck
    release = True
    stuck.run_forever()  # until it has ended
    stuck.close()


@both_ways
def test_who_waits_for_his_turn_waits_no_longer_than_he_wants(
    spare: SpareLoop, needs_thread: bool
) -> None:
    begun, release = threading.Event(), threading.Event()

    async def long() -> None:
        begun.set()
        while not release.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)

    first = threading.Thread(
        target=lambda: spare.run(long, 10, needs_thread=needs_thread), daemon=True
    )
    first.start()
    assert begun.wait(5)
    with pytest.raises(TimeoutError):
        spare.run(which, 0.02, needs_thread=needs_thread)
    release.set()
    first.join(10)
    spare.run(which, 5, needs_thread=needs_thread)


@both_ways
def test_flush_waits_for_what_is_under_way_and_no_longer_than_it_may(
    spare: SpareLoop, needs_thread: bool
) -> None:
    begun, release, done = threading.Event(), threading.Event(), threading.Event()

    async def long() -> None:
        begun.set()
        while not release.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        done.set()

    threading.Thread(
        target=lambda: spare.run(long, 10, needs_thread=needs_thread), daemon=True
    ).start()
    assert begun.wait(5)
    spare.flush(timeout=0.01)
    assert not done.is_set()
    release.set()
    spare.flush()
    assert done.is_set()


def test_flush_waits_for_what_is_just_being_handed_on(
    spare: SpareLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's thread may have begun with it before the caller has noted that it is under way."""
    spare.run(which, 5, needs_thread=True)
    handed_on, may_go_on, done = threading.Event(), threading.Event(), threading.Event()
    real = asyncio.run_coroutine_threadsafe

    def hand_on(*args: Any) -> Any:
        future = real(*args)
        handed_on.set()
        assert may_go_on.wait(5)
        return future

    async def work() -> None:
        while not may_go_on.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        done.set()

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_on)
    threading.Thread(target=lambda: spare.run(work, 10), daemon=True).start()
    assert handed_on.wait(5)
    found: list[bool] = []

    def flush() -> None:
        spare.flush()
        found.append(done.is_set())

    flushing = threading.Thread(target=flush)
    flushing.start()
    flushing.join(0.1)  # it has begun; or it is over already, and has found nothing to wait for
    may_go_on.set()
    flushing.join(10)
    assert found == [True]


class TimeLimit(BaseException):
    pass


@pytest.mark.parametrize("delay", [0.0001, 0.0003, 0.001, 0.003, 0.01])
def test_a_signal_that_comes_in_between_leaves_a_loop_that_works(
    spare: SpareLoop, delay: float
) -> None:
    """Ctrl-C, or a time limit of Celery: raised wherever the main thread is just then."""
    turns: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    def turn() -> asyncio.Lock:  # as layers have them: what a lost loop holds is nobody else's
        return turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def work() -> None:
        async with turn():
            for _ in range(1000):
                await asyncio.sleep(0)
            await asyncio.sleep(1)

    def limit(*args: Any) -> None:
        raise TimeLimit

    spare.run(which, 5)
    before = signal.signal(signal.SIGALRM, limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with pytest.raises(TimeLimit):
            spare.run(work, 5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    async def next_one() -> str:
        async with turn():
            return "done"

    assert spare.run(next_one, 5) == "done"


@pytest.mark.parametrize("needs_thread", [False, True])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own(spare: SpareLoop, needs_thread: bool) -> None:
    """In a child of a process that has published already (a preforking server)."""

    async def works() -> int:
        return os.getpid()

    assert spare.run(works, 5, needs_thread=needs_thread) == os.getpid()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = spare.run(works, 5, needs_thread=needs_thread)
            os.write(write_end, str(answer).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    assert os.read(read_end, 100) == str(child).encode()
    os.close(read_end)
    assert spare.run(works, 5, needs_thread=needs_thread) == os.getpid()


@both_ways
def test_a_child_of_a_fork_that_python_was_not_told_of_makes_its_own(
    spare: SpareLoop, monkeypatch: pytest.MonkeyPatch, needs_thread: bool
) -> None:
    """uWSGI's: what the parent has is seen, but its thread did not come along."""
    of_parent, _ = spare.run(which, 5, needs_thread=needs_thread)
    process = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: process + 1)
        assert spare.loop is None
        of_child, _ = spare.run(which, 5, needs_thread=needs_thread)
        assert of_child is not of_parent
        if needs_thread:
            of_child.call_soon_threadsafe(of_child.stop)
        while of_child.is_running():
            threading.Event().wait(0.001)
        of_child.close()
    assert spare.run(which, 5, needs_thread=needs_thread)[0] is of_parent
