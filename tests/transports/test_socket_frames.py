"""The WebSocket's dialect: lines and binary frames, in the order in which they were written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from django_live.core.events import Event, encode_data
from django_live.core.topics import as_topic
from django_live.transports.socket_frames import SOCKET, is_text, messages_of
from tests.support.socket_client import read_binary

TOPIC = as_topic("open/a")
CURSOR = "8310f5e0aafb.2kEX4Qow.1.8GnstlSp"


def line(frame: bytes) -> dict[str, object]:
    assert is_text(frame)
    assert frame.endswith(b"\n")
    assert frame.count(b"\n") == 1
    body = json.loads(frame)
    assert isinstance(body, dict)
    return body


def test_an_event_is_a_line_with_the_cursor_at_its_end() -> None:
    event = Event("said", encode_data({"text": "ü\n\r\u2028\x01"}), 1)
    body = line(SOCKET.event(TOPIC, event) + SOCKET.end(CURSOR))
    assert list(body) == ["event", "topic", "data", "id"]
    assert body["data"] == {"text": "ü\n\r\u2028\x01"}
    assert "id" not in line(SOCKET.event(TOPIC, event) + SOCKET.end(""))


def test_frames_of_the_stream_itself() -> None:
    opened = line(SOCKET.opened("c1", 20.0, 2.0, []) + SOCKET.end(""))
    assert opened["data"] == {
        "connection": "c1",
        "heartbeat": 20.0,
        "retry": 2000,
        "version": 1,
        "topics": [],
    }
    assert line(SOCKET.moved(CURSOR)) == {"event": "stream-cursor", "id": CURSOR}
    assert line(SOCKET.keep_alive() + SOCKET.end(CURSOR))["event"] == "keep-alive"
    reset = line(SOCKET.reset("open/a", "epoch", True) + SOCKET.end(""))
    assert reset["data"] == {"topic": "open/a", "reason": "epoch", "snapshot": True}
    snapshot = line(SOCKET.snapshot("open/a", "[1,\n2]") + SOCKET.end(CURSOR))
    assert (snapshot["data"], snapshot["id"]) == ([1, 2], CURSOR)
    assert line(SOCKET.goodbye(1.5)) == {"event": "stream-end", "data": {"retry": 1500}}
    assert line(SOCKET.reply(3, '{"a":1}')) == {"event": "stream-reply", "ref": 3, "data": {"a": 1}}
    refused = line(SOCKET.refused("x", {"code": "busy"}))
    assert refused == {"event": "stream-reply", "ref": "x", "error": {"code": "busy"}}
    assert "action" not in str(line(SOCKET.error("open/a", "revoked", "No.")))
    error = line(SOCKET.send_error("open/a", "forbidden", "No."))["data"]
    assert error == {"topic": "open/a", "code": "forbidden", "message": "No.", "action": "send"}


PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b'\x01\n\x01}\n{"', b"}\n\x01\0\0\0\x05", b"x" * 140_000]),
)
VALUES = st.one_of(st.none(), st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.text()))


@given(st.lists(st.tuples(st.one_of(PAYLOADS, VALUES), st.booleans()), min_size=1, max_size=8))
def test_whatever_waits_leaves_in_order_and_unchanged(
    written: list[tuple[object, bool]],
) -> None:
    waiting = b""
    for number, (data, has_cursor) in enumerate(written, 1):
        event = Event("said", encode_data(data), number, created=number)
        waiting += SOCKET.event(TOPIC, event) + SOCKET.end(CURSOR if has_cursor else "")
    read: list[tuple[object, bool]] = []
    begun = b""
    previous = ""
    for message in messages_of(waiting):
        kind = "text" if "text" in message else "bytes"
        assert (kind, previous) != ("text", "text"), "lines that could have left together"
        previous = kind
        if kind == "text":
            for text in message["text"].split("\n")[:-1]:
                body = json.loads(text)
                read.append((body["data"], "id" in body))
            continue
        frame = read_binary(message["bytes"])
        assert frame.flags is not None
        assert bool(frame.flags & 2) == bool(begun)
        assert frame.sequence == len(read) + 1
        assert frame.timestamp == frame.sequence * 1000
        begun += frame.data
        if not frame.flags & 1:
            read.append((begun, bool(frame.id)))
            begun = b""
        else:
            assert not frame.id, "only the last part moves the cursor"
    assert read == written
    assert is_text(waiting) == (len(list(messages_of(waiting))) == 1 and previous == "text")
