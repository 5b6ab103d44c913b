"""Live features for Django: what a site saves reaches the browsers that may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "History",
    "Message",
    "Rejected",
    "Topic",
    "Viewer",
    "adisconnect",
    "apublish",
    "apublish_many",
    "arecheck",
    "disconnect",
    "live_due",
    "live_position",
    "publish",
    "publish_many",
    "recheck",
]

if TYPE_CHECKING:
    from .core.control import adisconnect, arecheck, disconnect, recheck
    from .core.positions import live_position
    from .core.publishing import apublish, apublish_many, publish, publish_many
    from .core.topics import History, Message, Topic, Viewer
    from .exceptions import Rejected
    from .parts import live_due

_HOMES = {
    "History": "core.topics",
    "Message": "core.topics",
    "Rejected": "exceptions",
    "Topic": "core.topics",
    "Viewer": "core.topics",
    "adisconnect": "core.control",
    "apublish": "core.publishing",
    "apublish_many": "core.publishing",
    "arecheck": "core.control",
    "disconnect": "core.control",
    "live_due": "parts",
    "live_position": "core.positions",
    "publish": "core.publishing",
    "publish_many": "core.publishing",
    "recheck": "core.control",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Django imports this package before its settings can be read.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
