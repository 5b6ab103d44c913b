"""What the load generator says: requests that open connections, and frames of WebSockets.

https://www.rfc-editor.org/rfc/rfc6455#section-5.2
"""

from __future__ import annotations

import base64
import os
import re

PING = re.compile(rb"\x89([\x00-\x3f])", re.DOTALL)
"""The head of a ping, and how much follows it. No event looks like one: each begins with ``{``, which is
no length of these, and what comes of it is ASCII. (A ping may be as long as 125; no server here sends
more than 12.)"""
TEXT, PONG = 0x81, 0x8A


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """A whole frame as clients send them, masked. Of less than 64 kB."""
    assert len(payload) < 65_536
    length = (
        bytes([0x80 | len(payload)])
        if len(payload) < 126
        else b"\xfe" + len(payload).to_bytes(2, "big")
    )
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([kind]) + length + mask + masked


def pings_in(data: bytes) -> tuple[list[bytes], int]:
    """The payloads of the whole pings in it, and where the last of them ends (0: there is none)."""
    payloads: list[bytes] = []
    end = 0
    if b"\x89" in data:
        for head in PING.finditer(data):
            to = head.end() + head[1][0]
            if to <= len(data):
                payloads.append(data[head.end() : to])
                end = to
    return payloads, end


def websocket_request(path: str, port: int, headers: str = "") -> str:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Origin: http://127.0.0.1:{port}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"{headers}\r\n"
    )


def stream_request(path: str, port: int, headers: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{headers}\r\n"
