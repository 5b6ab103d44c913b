"""Ending tasks, also those that do not hear it the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 0.5
"""Seconds that a task has to clean up before it is cancelled once more."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they are done.

    Once is not enough: ``asyncio.wait_for()``, with which redis-py sends, loses a cancel that comes when
    all is sent (before Python 3.12).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
