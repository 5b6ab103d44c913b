"""The dialect of django-eventstream's clients.

Must keep true: frames are byte for byte what its own view writes, but for the ids: they stand on every
frame that moves the cursor, ``stream-open`` included, and name positions of our log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping

from ...core.events import Event
from ...core.topics import Topic
from .ids import id_of
from .payload import said_of

PADDING = b":" + b" " * 2048 + b"\n\n"
KEEP_ALIVE = b"event: keep-alive\ndata:\n"
FINAL = frozenset({"forbidden", "revoked"})
"""Errors after which a client shall not come back: they have the id ``error``, which is refused."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_NOT_IN_A_NAME = re.compile(r"[\r\n\0]")


class EventstreamFrames:
    """Frames of one connection. Events are framed once for all: they have one name."""

    name = "eventstream"
    content_type = "text/event-stream"

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        """``topics``: by the channel that each stands for."""
        self._channels = {topic.key[:12]: channel for channel, topic in topics.items()}
        self._names = {topic.name: channel for channel, topic in topics.items()}
        self.over: Callable[[], None] = lambda: None
        """Ends the connection."""
        self._is_final = False

    def event(self, topic: Topic, event: Event) -> bytes:
        said = said_of(event)
        return _frame(said.type, said.text)

    def end(self, cursor: str) -> bytes:
        id = id_of(cursor, self._channels) if cursor else ""
        return f"id: {id}\n\n".encode() if id else b"\n"

    def moved(self, cursor: str) -> bytes:
        # A frame of nothing but an id, which moves the cursor of every EventSource.
        id = self.end(cursor)
        return id if id != b"\n" else b""

    def keep_alive(self) -> bytes:
        return KEEP_ALIVE

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return PADDING + b"event: stream-open\ndata:\n"

    def snapshot(self, topic: str, data: str) -> bytes:
        return _frame("stream-snapshot", data)

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        return _frame("stream-reset", json.dumps({"channels": [self._names.get(topic, topic)]}))

    def error(self, topic: str, code: str, message: str) -> bytes:
        """The end of the stream; a client that may come back is not kept from it by an id."""
        asyncio.get_running_loop().call_soon(self.over)  # behind what is written now
        if code not in FINAL:
            return b""
        self._is_final = True
        channel = self._names.get(topic, topic)
        text = f"Permission denied to channels: {channel}"
        data = json.dumps({"condition": "forbidden", "text": text, "channels": [channel]})
        return _frame("stream-error", data, "error") + b"\n"

    def goodbye(self, retry: float) -> bytes:
        return b"" if self._is_final else f"retry: {round(retry * 1000)}\n\n".encode()


def _frame(type: str, text: str, id: str = "") -> bytes:
    """A frame without its end."""
    lines = [f"event: {_NOT_IN_A_NAME.sub('', type)}"]
    if id:
        lines.append(f"id: {id}")
    lines += [f"data: {line}" for line in _LINE_END.split(text)]
    return ("\n".join(lines) + "\n").encode()
