"""Which channel layer is in force, and what differs from layer to layer. Inside core nobody else knows
Channels.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers

from ..conf import live_settings

RESTING = frozenset({"channels_redis"})
"""Packages whose layers do nothing between two sends."""
CLOSE_TIMEOUT = 5.0


def layer_in_force() -> Any | None:
    """The project's channel layer; None where only this process would hear it."""
    layer = channel_layers.backends.get(live_settings().CHANNEL_LAYER)
    if layer is None:
        from django.conf import settings

        alias = live_settings().CHANNEL_LAYER
        if alias not in getattr(settings, "CHANNEL_LAYERS", {}):
            return None
        layer = channel_layers[alias]
    return None if isinstance(layer, InMemoryChannelLayer) else layer


def is_resting(layer: Any) -> bool:
    """Whether it does nothing in its event loop between two sends, such as to tell a broker that it is
    alive."""
    return any(kind.__module__.partition(".")[0] in RESTING for kind in type(layer).__mro__)


def is_idle_timeout(error: Exception) -> bool:
    """redis-py's socket time-out is as long as the layer's blocking read: so an idle channel raises.
    Its TimeoutError is none of Python's."""
    return isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError"


def capacity_of(layer: Any, channel: str) -> int:
    """How many messages may wait in one of its channels before more are dropped; 0: any number."""
    get_capacity = getattr(layer, "get_capacity", None)
    return int(get_capacity(channel)) if callable(get_capacity) else 0


def another_instance(layer: Any) -> Any | None:
    """A layer as this one with connections of its own; None for one that the settings do not name."""
    alias = live_settings().CHANNEL_LAYER
    try:
        fresh = channel_layers.make_backend(alias)
    except Exception:
        return None
    return fresh if type(fresh) is type(layer) else None


async def close(layer: Any) -> None:
    """Let an instance of our own go. ``flush()`` of some layers empties them for everybody, so it is
    not called."""
    close_pools = getattr(layer, "close_pools", None)
    if callable(close_pools):
        with contextlib.suppress(Exception):
            await asyncio.wait_for(close_pools(), CLOSE_TIMEOUT)
