"""Nothing that a name or an event contains can end a line; cursors stand where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_live.core.events import Event, encode_data
from django_live.core.topics import History, Topic, registry
from django_live.exceptions import InvalidEvent, InvalidTopic
from django_live.transports.frames import SSE, one_line
from tests.support.wire import Frame, FrameParser

with registry.isolated():

    class Anything(Topic):
        pattern = "<path:name_>"
        history = History()


CURSOR = "3f0a9c21b7de.Xk3v9QmP.17.aB3dE6gh"


def frames_of(data: bytes) -> list[Frame]:
    return list(FrameParser().feed(data))


def the_frame(data: bytes) -> Frame:
    (frame,) = frames_of(data)
    return frame


def test_an_event_is_a_frame() -> None:
    event = Event("order.paid", '{"a":1}', 17)
    assert SSE.event(Anything(name_="elsewhere/42"), event) + SSE.end(CURSOR) == (
        b"event: order.paid\ntopic: elsewhere/42\n"
        b'data: {"a":1}\nid: 3f0a9c21b7de.Xk3v9QmP.17.aB3dE6gh\n\n'
    )


def test_without_a_log_a_frame_has_no_id() -> None:
    assert the_frame(SSE.event(Anything(name_="x"), Event("a", "1")) + SSE.end("")).id is None


def test_a_cursor_alone_is_a_frame_that_only_moves_it() -> None:
    frame = the_frame(SSE.end(CURSOR))
    assert frame.id == CURSOR
    assert (frame.event, frame.data) == (None, None)


def test_an_error_moves_no_cursor_and_is_whole() -> None:
    frame = the_frame(SSE.error("elsewhere/42", "forbidden", "No."))
    assert frame.event == "stream-error"
    assert json.loads(frame.data or "") == {
        "topic": "elsewhere/42",
        "code": "forbidden",
        "message": "No.",
    }
    assert frame.id is None


def test_the_first_frame_says_who_and_how() -> None:
    frame = the_frame(SSE.opened("c1", 20.0, 2.0, ["a", "b"]) + SSE.end(CURSOR))
    assert frame.event == "stream-open"
    assert frame.retry == 2000
    assert json.loads(frame.data or "") == {
        "connection": "c1",
        "heartbeat": 20.0,
        "topics": ["a", "b"],
    }


def test_the_last_frame_says_when_to_come_back() -> None:
    assert SSE.goodbye(1.5) == b"retry: 1500\n\n"


def test_a_heartbeat_is_an_event_with_a_cursor() -> None:
    frame = the_frame(SSE.keep_alive() + SSE.end(CURSOR))
    assert (frame.event, frame.data, frame.id) == ("keep-alive", "", CURSOR)


@given(st.text())
def test_data_stays_on_its_line(data: str) -> None:
    assert "\n" not in one_line(data)
    assert "\r" not in one_line(data)


hostile = st.text() | st.text('\r\n\0:\u0085\u2028\u2029 idatevn{}"')


@given(
    hostile, st.recursive(hostile, lambda inner: st.lists(inner) | st.dictionaries(hostile, inner))
)
def test_an_event_arrives_as_it_was_sent_and_is_one_frame(name: str, data: Any) -> None:
    try:
        topic = Anything(name_=name)
        event = Event("said", encode_data(data), 1)
        raw = SSE.event(topic, event) + SSE.end(CURSOR)
    except (InvalidTopic, InvalidEvent):
        return
    frame = the_frame(raw)
    assert frame.event == "said"
    assert frame.topic == name
    assert json.loads(frame.data or "") == data
    assert frame.id == CURSOR


@given(hostile, hostile, hostile)
def test_whatever_a_client_asked_for_its_refusal_is_one_frame(a: str, b: str, c: str) -> None:
    a, b, c = (text.encode(errors="replace").decode() for text in (a, b, c))
    frame = the_frame(SSE.error(a, b, c))
    assert json.loads(frame.data or "") == {"topic": a, "code": b, "message": c}


@pytest.mark.parametrize("data", ['{\n"a":\r\n1}', "1\n\nevent: forged\ndata: 2"])
def test_other_json_out_of_a_store_is_made_safe(data: str) -> None:
    frames = frames_of(SSE.event(Anything(name_="x"), Event("said", data, 1)) + SSE.end(""))
    assert [frame.event for frame in frames] == ["said"]
