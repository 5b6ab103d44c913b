"""The dialect of the WebSocket: a JSON object in a line for each frame, or a binary frame.

What waits for a socket is bytes, whatever the transport. So a binary frame waits as a mark, its length
and itself, followed by the same end as a line has (the cursor is in it); ``messages_of()`` makes
WebSocket messages of what waited: all lines that follow one another in one message, each binary frame
in one of its own.

Must keep true: no line begins with the mark or has an LF inside; frames leave in the order in which
they were written.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator

from ..core.events import Event, bytes_of
from ..core.topics import Topic
from .binary import write_frames
from .frames import compact, one_line
from .sockets import Message

PROTOCOL_VERSION = 1
MARK = b"\x01"
_LINE_THEN_MARK = b"\n" + MARK
_LENGTH = struct.Struct(">I")


class SocketFrames:
    """Text frames are JSON objects with ``event`` first and ``id``, the cursor, last."""

    name = "websocket"

    def event(self, topic: Topic, event: Event) -> bytes:
        payload = bytes_of(event.data)
        if payload is None:
            return self._head(event.type, topic.name, one_line(event.data))
        parts = write_frames(
            topic.name,
            event.type,
            payload,
            sequence=event.offset,
            timestamp=round((event.created or time.time()) * 1000),
        )
        # The last part has no end yet: it is the one that carries the cursor.
        return self.end("").join(MARK + _LENGTH.pack(len(part)) + part for part in parts)

    def end(self, cursor: str) -> bytes:
        return f',"id":"{cursor}"}}\n'.encode() if cursor else b"}\n"

    def moved(self, cursor: str) -> bytes:
        return b'{"event":"stream-cursor"' + self.end(cursor)

    def keep_alive(self) -> bytes:
        return b'{"event":"keep-alive"'

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        data = {
            "connection": connection,
            "heartbeat": heartbeat,
            "retry": round(retry * 1000),
            "version": PROTOCOL_VERSION,
            "topics": topics,
        }
        return b'{"event":"stream-open","data":' + compact(data).encode()

    def snapshot(self, topic: str, data: str) -> bytes:
        return self._head("stream-snapshot", topic, one_line(data))

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        data = compact({"topic": topic, "reason": reason, "snapshot": snapshot_follows})
        return self._head("stream-reset", topic, data)

    def error(self, topic: str, code: str, message: str) -> bytes:
        return self._whole({"topic": topic, "code": code, "message": message})

    def send_error(self, topic: str, code: str, message: str) -> bytes:
        """Of a message that asked for no reply: it says nothing of the subscription."""
        return self._whole({"topic": topic, "code": code, "message": message, "action": "send"})

    def reply(self, ref: float | str, data: str) -> bytes:
        """``data`` is JSON."""
        return f'{{"event":"stream-reply","ref":{compact(ref)},"data":{one_line(data)}}}\n'.encode()

    def refused(self, ref: float | str, error: dict[str, str]) -> bytes:
        return (
            f'{{"event":"stream-reply","ref":{compact(ref)},"error":{compact(error)}}}\n'.encode()
        )

    def goodbye(self, retry: float) -> bytes:
        data = compact({"retry": round(retry * 1000)})
        return f'{{"event":"stream-end","data":{data}}}\n'.encode()

    def _head(self, event: str, topic: str, data: str) -> bytes:
        return f'{{"event":"{event}","topic":{compact(topic)},"data":{data}'.encode()

    def _whole(self, data: dict[str, str]) -> bytes:
        return f'{{"event":"stream-error","data":{compact(data)}}}\n'.encode()


SOCKET = SocketFrames()


def text_message(data: bytes) -> Message:
    return {"type": "websocket.send", "text": data.decode()}


def is_text(data: bytes) -> bool:
    """Whether what waits is lines and nothing else: nearly always, so it is asked cheaply. JSON writes
    the mark as an escape; what has it nevertheless is looked at closely by ``messages_of()``."""
    return MARK not in data


def messages_of(data: bytes) -> Iterator[Message]:
    """The WebSocket messages that say what waited, in order."""
    place = 0
    while place < len(data):
        if data.startswith(MARK, place):
            start = place + len(MARK) + _LENGTH.size
            (length,) = _LENGTH.unpack_from(data, place + len(MARK))
            end = start + length
            place = data.index(b"\n", end) + 1
            cursor = json.loads(b'{"event":""' + data[end:place]).get("id", "")
            yield {"type": "websocket.send", "bytes": data[start:end] + cursor.encode()}
        else:
            next_mark = data.find(_LINE_THEN_MARK, place)
            end = len(data) if next_mark < 0 else next_mark + 1
            yield text_message(data[place:end])
            place = end
