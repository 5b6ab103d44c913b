"""How an event is framed: the dialects of docs/reference/protocol.md.

Must keep true: lines end with LF; nothing that a topic's name or an event's data contains can end a
line; a frame that moves the cursor has an ``id``, an error never.
"""

from __future__ import annotations

import json
from typing import Any

from ..core.events import Event
from ..core.topics import Topic


def one_line(data: str) -> str:
    """JSON text as it may stand on one ``data:`` line. The encoder escapes CR and LF inside strings;
    a store that hands back other JSON is made safe here."""
    return data.replace("\r", " ").replace("\n", " ")


def compact(value: Any) -> str:
    """JSON text without spaces, in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class ServerSentEvents:
    """One JSON value on the ``data:`` line of each named event."""

    name = "sse"
    content_type = "text/event-stream; charset=utf-8"

    def event(self, topic: Topic, event: Event) -> bytes:
        return f"event: {event.type}\ntopic: {topic.name}\ndata: {one_line(event.data)}\n".encode()

    def end(self, cursor: str) -> bytes:
        return f"id: {cursor}\n\n".encode() if cursor else b"\n"

    def moved(self, cursor: str) -> bytes:
        return self.end(cursor)

    def keep_alive(self) -> bytes:
        return b"event: keep-alive\ndata:\n"

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        data = compact({"connection": connection, "heartbeat": heartbeat, "topics": topics})
        return f"retry: {round(retry * 1000)}\nevent: stream-open\ndata: {data}\n".encode()

    def snapshot(self, topic: str, data: str) -> bytes:
        return f"event: stream-snapshot\ntopic: {topic}\ndata: {one_line(data)}\n".encode()

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        data = compact({"topic": topic, "reason": reason, "snapshot": snapshot_follows})
        return f"event: stream-reset\ntopic: {topic}\ndata: {data}\n".encode()

    def error(self, topic: str, code: str, message: str) -> bytes:
        data = compact({"topic": topic, "code": code, "message": message})
        return f"event: stream-error\ndata: {data}\n\n".encode()

    def goodbye(self, retry: float) -> bytes:
        return f"retry: {round(retry * 1000)}\n\n".encode()


SSE = ServerSentEvents()


class JsonLines:
    """For answers to polls: each frame a JSON object in a line of its own, each cursor a line that
    begins with ``#``. ``answer()`` makes the answer's body of these."""

    name = "json"

    def event(self, topic: Topic, event: Event) -> bytes:
        return self._frame(event.type, topic.name, one_line(event.data))

    def end(self, cursor: str) -> bytes:
        return f"#{cursor}\n".encode() if cursor else b""

    def moved(self, cursor: str) -> bytes:
        return self.end(cursor)

    def keep_alive(self) -> bytes:
        return b""

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return b""

    def snapshot(self, topic: str, data: str) -> bytes:
        return self._frame("stream-snapshot", topic, one_line(data))

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        data = {"topic": topic, "reason": reason, "snapshot": snapshot_follows}
        return self._frame("stream-reset", topic, compact(data))

    def error(self, topic: str, code: str, message: str) -> bytes:
        data = {"topic": topic, "code": code, "message": message}
        return self._frame("stream-error", topic, compact(data))

    def goodbye(self, retry: float) -> bytes:
        return b""

    def answer(self, lines: list[bytes], cursor: str, retry_after: float, more: bool) -> bytes:
        """The body of an answer. ``lines``: its frames, with or without their ends."""
        frames = b",".join(line.rstrip(b"\n") for line in lines)
        rest = compact({"cursor": cursor, "retry_after": round(retry_after, 3), "more": more})
        return b'{"frames":[' + frames + b"]," + rest[1:].encode()

    def _frame(self, type: str, topic: str, data: str) -> bytes:
        return f'{{"event":"{type}","topic":{compact(topic)},"data":{data}}}\n'.encode()


JSON = JsonLines()
