"""A store of each kind, and a runtime on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio
from django.db import connections

from django_live.core.runtime import Runtime, runtime
from django_live.core.topics import registry
from django_live.features.dashboards import Board, following, writing
from tests.contracts.conftest import empty_redis, redis_server, state, time
from tests.features.dashboards import boards

__all__ = ["empty_redis", "redis_server", "state", "time"]

ALL: list[type[Board]] = [
    boards.Load,
    boards.Rows,
    boards.Points,
    boards.Log,
    boards.Private,
    boards.Computed,
]


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The boards are declared, and checked often."""
    monkeypatch.setattr(following, "CHECK", 0.05)
    monkeypatch.setattr(following, "COMPARE", 0.1)
    with registry.isolated():
        for board in ALL:
            for one in (board, board._paced_class, board.news_class):
                registry.register(one)
        yield
        assert writing.writer.flush()


@pytest_asyncio.fixture
async def live(state: Any, declared: None) -> AsyncIterator[Runtime]:  # noqa: ARG001 - it stands on them
    live = runtime()
    yield live
    await live.stop()


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Any]]:
    """`await elsewhere(set_value, topic, 1)`: as a thread without an event loop does."""
    import asyncio

    with ThreadPoolExecutor(1) as pool:

        async def run(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, lambda: work(*args, **options))

        yield run
        pool.submit(connections.close_all).result()  # the thread ends here, and nobody else could
