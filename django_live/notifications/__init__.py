"""Notifications: told to people, kept until they are read, live in every tab. An app of its own:
``"django_live.notifications"`` in ``INSTALLED_APPS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "EVERYBODY",
    "Kind",
    "NotificationRule",
    "anotify",
    "changed",
    "created",
    "declare_kind",
    "deleted",
    "mark_read",
    "notify",
    "unread_count",
]

if TYPE_CHECKING:
    from .conditions import changed, created, deleted
    from .inbox import mark_read, unread_count
    from .kinds import Kind, declare_kind
    from .recipients import EVERYBODY
    from .rules import NotificationRule
    from .sending import anotify, notify

_HOMES = {
    "EVERYBODY": "recipients",
    "Kind": "kinds",
    "NotificationRule": "rules",
    "anotify": "sending",
    "changed": "conditions",
    "created": "conditions",
    "declare_kind": "kinds",
    "deleted": "conditions",
    "mark_read": "inbox",
    "notify": "sending",
    "unread_count": "inbox",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Django imports this package before there are models.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
