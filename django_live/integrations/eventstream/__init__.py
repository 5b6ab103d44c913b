"""django-eventstream 5.3: a project that uses it goes on as it is, over our hub and log.

``INSTALLED_APPS`` gets ``"django_live"`` and ``"django_live.integrations.eventstream"``; see
docs/howto/from-django-eventstream.md. A *channel* is here what django-eventstream calls one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["LogStorage", "TopicChannelManager", "topic_of_channel"]

if TYPE_CHECKING:
    from .managers import TopicChannelManager
    from .storage import LogStorage
    from .topics import topic_of_channel

_HOMES = {
    "LogStorage": "storage",
    "TopicChannelManager": "managers",
    "topic_of_channel": "topics",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Django imports this package before its settings can be read.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
