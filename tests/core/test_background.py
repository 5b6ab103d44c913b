"""The loop of those who have none: one thread, in order, anew in a forked child."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from django_live.core.background import BackgroundLoop


@pytest.fixture
def background() -> Iterator[BackgroundLoop]:
    background = BackgroundLoop()
    yield background
    background.flush()
    if background.loop is not None:
        loop = background.loop
        loop.call_soon_threadsafe(loop.stop)
        while loop.is_running():
            threading.Event().wait(0.001)
        loop.close()


def test_nothing_runs_before_it_is_needed(background: BackgroundLoop) -> None:
    assert background.loop is None
    background.flush()


def test_work_is_done_one_after_the_other_in_the_order_of_its_coming(
    background: BackgroundLoop,
) -> None:
    done: list[int] = []
    running = 0

    async def work(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        done.append(number)
        running -= 1

    futures = [background.submit(work(number)) for number in range(200)]
    background.flush()
    for future in futures:
        future.result(timeout=5)
    assert done == list(range(200))


def test_every_caller_shares_one_loop(background: BackgroundLoop) -> None:
    loops = []

    async def which() -> None:
        loops.append(asyncio.get_running_loop())

    threads = [
        threading.Thread(target=lambda: background.submit(which()).result(5)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 8
    assert len(set(loops)) == 1


def test_what_fails_is_told_to_its_caller_and_stops_nobody(background: BackgroundLoop) -> None:
    async def fails() -> None:
        raise LookupError("no")

    async def works() -> str:
        return "done"

    failing, working = background.submit(fails()), background.submit(works())
    with pytest.raises(LookupError):
        failing.result(5)
    assert working.result(5) == "done"


def test_flush_waits_no_longer_than_it_may(background: BackgroundLoop) -> None:
    release = threading.Event()

    async def long() -> None:
        while not release.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)

    future = background.submit(long())
    background.flush(timeout=0.01)
    assert not future.done()
    release.set()
    background.flush()
    assert future.done()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own() -> None:
    """In a child of a process whose loop runs already (a preforking server)."""
    from django_live.core.background import background

    async def works() -> int:
        return os.getpid()

    assert background.submit(works()).result(5) == os.getpid()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = background.submit(works()).result(5)
            os.write(write_end, str(answer).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    assert os.read(read_end, 100) == str(child).encode()
    os.close(read_end)
    assert background.submit(works()).result(5) == os.getpid()


def test_a_child_of_a_fork_that_python_was_not_told_of_makes_its_own(
    background: BackgroundLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI's: what the parent has is seen, but its thread did not come along."""

    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    of_parent = background.submit(which()).result(5)
    process = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: process + 1)
        assert background.loop is None
        of_child = background.submit(which()).result(5)
        assert of_child is not of_parent
        of_child.call_soon_threadsafe(of_child.stop)
        while of_child.is_running():
            threading.Event().wait(0.001)
        of_child.close()
    assert background.submit(which()).result(5) is of_parent
