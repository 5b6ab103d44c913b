"""Errors that callers may want to catch. Each message says what to do."""

from __future__ import annotations


class LiveError(Exception):
    """Base of every error that django_live raises on purpose."""


class InvalidTopic(LiveError):
    """A topic's name or declaration is not valid."""


class UnknownTopic(InvalidTopic):
    """No declared Topic matches a name (or the name is not the one its Topic would build)."""


class InvalidEvent(LiveError, ValueError):
    """An event's type or data cannot be sent."""


class Rejected(LiveError):
    """Raised by ``Topic.on_message`` to say no: the text is shown to who sent the message."""

    def __init__(self, message: str, *, code: str = "rejected") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """What a program can tell it by."""


class MalformedCursor(LiveError):
    """A client's cursor cannot be read at all."""


class StoreError(LiveError):
    """The store could not do what was asked; nothing of it happened, unless the message says that it
    may have: a store on the network whose answer did not come."""


class MapFull(StoreError):
    """A map of the shared state would hold more than its user allows; nothing of it happened."""
