"""The project's own code: on few threads, sync or async, with a database connection that is given back."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from django_live.core import hooks

who: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.mark.asyncio
async def test_both_kinds_of_methods_are_called() -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert await hooks.call(lambda value: value, 1) == 1
    assert await hooks.call(later, 2) == 2


def test_a_plain_thread_calls_both_kinds_too() -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert hooks.call_sync(lambda value: value, 1) == 1
    assert hooks.call_sync(later, 2) == 2


@pytest.mark.asyncio
async def test_what_a_method_raises_comes_back() -> None:
    def fails() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await hooks.call(fails)


@pytest.mark.asyncio
async def test_a_thousand_calls_need_few_threads_and_leave_the_store_its_own() -> None:
    names: set[str] = set()
    gate = threading.Event()

    def slow() -> None:
        names.add(threading.current_thread().name)
        gate.wait(10)

    calls = [asyncio.ensure_future(hooks.call(slow)) for _ in range(1000)]
    await asyncio.sleep(0)
    # Every thread for hooks is taken; the log is read all the same.
    assert await hooks.in_thread(hooks.store_threads(), lambda: "read") == "read"
    gate.set()
    await asyncio.gather(*calls)
    assert len(names) <= hooks.HOOK_THREADS


@pytest.mark.asyncio
async def test_a_method_knows_the_context_of_its_caller() -> None:
    who.set("somebody")
    assert await hooks.call(who.get) == "somebody"


@pytest.mark.asyncio
async def test_the_database_connection_is_looked_after_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(hooks, "close_old_connections", lambda: calls.append("close"))

    def fails() -> None:
        calls.append("work")
        raise LookupError

    with pytest.raises(LookupError):
        await hooks.call(fails)
    assert calls == ["close", "work", "close"]
