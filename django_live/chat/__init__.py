"""Chat: rooms, who is in them, and what is said there. An app of its own: ``"django_live.chat"`` in
``INSTALLED_APPS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "RoomTopic",
    "add_member",
    "ban",
    "create_room",
    "delete",
    "direct_room",
    "edit",
    "join",
    "leave",
    "mark_read",
    "mute",
    "react",
    "remove_member",
    "rooms_of",
    "search",
    "send",
    "set_role",
    "unban",
    "unmute",
]

if TYPE_CHECKING:
    from .changing import delete, edit, react
    from .live import RoomTopic
    from .members import add_member, ban, join, leave, mute, remove_member, set_role, unban, unmute
    from .reading import mark_read
    from .rooms import create_room, direct_room, rooms_of
    from .searching import search
    from .sending import send

_HOMES = {
    "RoomTopic": "live",
    "add_member": "members",
    "ban": "members",
    "create_room": "rooms",
    "delete": "changing",
    "direct_room": "rooms",
    "edit": "changing",
    "join": "members",
    "leave": "members",
    "mark_read": "reading",
    "mute": "members",
    "react": "changing",
    "remove_member": "members",
    "rooms_of": "rooms",
    "search": "searching",
    "send": "sending",
    "set_role": "members",
    "unban": "members",
    "unmute": "members",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Django imports this package before there are models.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
