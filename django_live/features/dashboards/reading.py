"""What a board shows now: for newcomers on a stream, and for pages and polls that no stream runs
beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync

from ...core.runtime import running_runtime
from . import following

if TYPE_CHECKING:
    from .topics import Board


async def asnapshot(topic: Board) -> dict[str, Any]:
    """As viewers get it: with ``run`` and ``n``, the place among the updates; ``age``, the seconds
    since it was written, or None; and ``value``, ``rows`` or ``items``."""
    live = running_runtime()
    if live is not None:
        follower = await following.boards_of(live).follow(topic)
        return follower.snapshot()
    holding = topic.board.holding()
    await holding.load()
    return {"run": "", "n": 0, "age": holding.age, **holding.snapshot()}


def snapshot(topic: Board) -> dict[str, Any]:
    """The same, for a view or a template."""
    result: dict[str, Any] = async_to_sync(_read)(topic)
    return result


async def _read(topic: Board) -> dict[str, Any]:
    holding = topic.board.holding()
    await holding.load()
    return {"run": "", "n": 0, "age": holding.age, **holding.snapshot()}
