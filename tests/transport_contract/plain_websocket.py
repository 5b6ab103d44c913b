"""A WebSocket client on a plain socket, from RFC 6455: strict about what a server may send, and able to
stop reading, which libraries that read by themselves are not."""

from __future__ import annotations

import base64
import hashlib
import os
import socket

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketViolationError(Exception):
    """The server sent what RFC 6455 forbids."""


class FrameReader:
    """Bytes in; whole messages, and the close, out."""

    def __init__(self) -> None:
        self.close_code: int | None = None
        self.pings: list[bytes] = []
        self._buffer = bytearray()
        self._message = bytearray()
        self._opcode = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that these bytes complete: (opcode, payload)."""
        self._buffer += data
        messages = []
        while (frame := self._frame()) is not None:
            final, opcode, payload = frame
            if self.close_code is not None:
                raise WebSocketViolationError("a frame after the close")
            if opcode in (CLOSE, PING, PONG):
                self._control(opcode, payload, final=final)
            elif message := self._data(opcode, payload, final=final):
                messages.append(message)
        return messages

    def _data(self, opcode: int, payload: bytes, *, final: bool) -> tuple[int, bytes] | None:
        if bool(opcode) == bool(self._opcode):
            raise WebSocketViolationError("a message inside a message, or a part of none")
        self._opcode = opcode or self._opcode
        self._message += payload
        if not final:
            return None
        message = self._opcode, bytes(self._message)
        self._message.clear()
        self._opcode = 0
        return message

    def _control(self, opcode: int, payload: bytes, *, final: bool) -> None:
        if not final or len(payload) > 125:
            raise WebSocketViolationError("a control frame that is too long, or in parts")
        if opcode == PING:
            self.pings.append(payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & 0x70 or second & 0x80 or first & 15 not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            raise WebSocketViolationError(f"no frame begins so: {bytes(buffer[:20])!r}")
        length, start = second, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        payload = bytes(buffer[start : start + length])
        del buffer[: start + length]
        return bool(first & 0x80), first & 15, payload


def frame_bytes(opcode: int, payload: bytes) -> bytes:
    """One masked frame, as a client has to send it."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x80 | opcode]) + length + mask + masked


def open_handshake(connection: socket.socket, host: str, path: str, subprotocol: str) -> bytes:
    """Upgrade a connected socket; what came behind the answer's head is returned."""
    key = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {subprotocol}",
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(65_536)
        if not data:
            raise WebSocketViolationError(f"no answer to the handshake: {answer!r}")
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
    }
    accept = base64.b64encode(hashlib.sha1(key + ACCEPT_GUID).digest()).decode()
    if not status.startswith("HTTP/1.1 101"):
        raise WebSocketViolationError(head.decode("latin-1"))
    if (
        headers["sec-websocket-accept"] != accept
        or headers.get("upgrade", "").lower() != "websocket"
    ):
        raise WebSocketViolationError(head.decode("latin-1"))
    if headers.get("sec-websocket-protocol") != subprotocol:
        raise WebSocketViolationError(f"not the subprotocol that was offered: {head!r}")
    return rest
