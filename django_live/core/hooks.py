"""Calls the project's own methods from the event loop: permissions, snapshots, hooks; ``def`` or
``async def``.

Must keep true: the number of threads and database connections does not grow with the number of
callers, and no connection of the project's code stays open longer than ``CONN_MAX_AGE`` says.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.db import close_old_connections

from .store_threads import StoreThreads

HOOK_THREADS = 8
MESSAGE_THREADS = 16
STORE_THREADS = 4

T = TypeVar("T")


@cache
def hook_threads() -> ThreadPoolExecutor:
    """For the project's code, which may be slow."""
    return ThreadPoolExecutor(HOOK_THREADS, thread_name_prefix="django_live-hook")


@cache
def message_threads() -> ThreadPoolExecutor:
    """For ``on_message``, which what visitors send can keep busy: permissions must not wait for it."""
    return ThreadPoolExecutor(MESSAGE_THREADS, thread_name_prefix="django_live-message")


@cache
def store_threads() -> StoreThreads:
    """For the log. Apart from the project's code, so that a slow hook delays no delivery."""
    return StoreThreads(STORE_THREADS)


async def in_thread(pool: Executor, work: Callable[[], T]) -> T:
    """Run blocking work; the database connection it uses is treated as that of a request."""
    return await asyncio.wrap_future(submit(pool, work))


def submit(pool: Executor, work: Callable[[], T]) -> Future[T]:
    """The same for those who wait in a thread."""
    if isinstance(pool, StoreThreads):  # they look after their connections themselves
        return pool.submit(copy_context().run, work)

    def run() -> T:
        close_old_connections()
        try:
            return work()
        finally:
            close_old_connections()

    return pool.submit(copy_context().run, run)


async def call(method: Callable[..., Any], *args: Any) -> Any:
    """Call a method of the project's from the event loop."""
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    answer = await in_thread(hook_threads(), lambda: method(*args))
    # Of an async method behind a plain decorator. Taken as it is, it would be a yes to anything.
    return await answer if inspect.isawaitable(answer) else answer


def call_sync(method: Callable[..., Any], *args: Any) -> Any:
    """Call a method of the project's from a plain thread."""
    if inspect.iscoroutinefunction(method):
        return async_to_sync(method)(*args)
    answer = method(*args)
    return async_to_sync(_awaited)(answer) if inspect.isawaitable(answer) else answer


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer
