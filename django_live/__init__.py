"""Live features for Django: what a site saves reaches the browsers that may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "History",
    "Topic",
    "Viewer",
    "adisconnect",
    "apublish",
    "arecheck",
    "disconnect",
    "live_position",
    "publish",
    "recheck",
]

if TYPE_CHECKING:
    from .core.control import adisconnect, arecheck, disconnect, recheck
    from .core.positions import live_position
    from .core.publishing import apublish, publish
    from .core.topics import History, Topic, Viewer

_HOMES = {
    "History": "core.topics",
    "Topic": "core.topics",
    "Viewer": "core.topics",
    "adisconnect": "core.control",
    "apublish": "core.publishing",
    "arecheck": "core.control",
    "disconnect": "core.control",
    "live_position": "core.positions",
    "publish": "core.publishing",
    "recheck": "core.control",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Django imports this package before its settings can be read.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
