"""The binary frame: what is written is read back, and nothing else is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_live.transports.actions import BadAction, Parts, Sent
from django_live.transports.binary import (
    CONTINUES,
    MAX_PAYLOAD,
    MORE_FOLLOWS,
    WANTS_REPLY,
    BinaryFrame,
    MalformedFrame,
    read_frame,
    write_frames,
)
from tests.support.socket_client import binary, read_binary

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50)
TYPES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:-]{0,20}", fullmatch=True)
NUMBERS = st.integers(0, 2**64 - 1)


def written(payload: bytes, **options: int) -> list[bytes]:
    return list(
        write_frames("rooms/a", "said", payload, **{"sequence": 7, "timestamp": 9} | options)
    )


@given(NAMES, TYPES, st.binary(max_size=200), NUMBERS, NUMBERS)
def test_what_is_written_is_read_back_by_us_and_by_others(
    topic: str, type: str, payload: bytes, sequence: int, timestamp: int
) -> None:
    (frame,) = write_frames(topic, type, payload, sequence=sequence, timestamp=timestamp)
    assert read_frame(frame) == BinaryFrame(topic, type, payload, sequence, timestamp)
    theirs = read_binary(frame + b"a.cursor")
    assert (theirs.topic, theirs.event, theirs.data) == (topic, type, payload)
    assert (theirs.sequence, theirs.timestamp, theirs.id) == (sequence, timestamp, "a.cursor")
    assert binary(topic, type, payload, sequence=sequence, timestamp=timestamp) == frame


def test_the_layout_is_that_of_the_protocol() -> None:
    (frame,) = write_frames("a", "bc", b"def", sequence=1, timestamp=2, flags=WANTS_REPLY)
    assert frame == (
        b"\x01" b"\x04" b"\x00\x01" b"\x02" b"\0\0\0\0\0\0\0\x01" b"\0\0\0\0\0\0\0\x02" b"\0\0\0\x03"
        b"a" b"bc" b"def"
    )  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 3 * MAX_PAYLOAD])
def test_a_large_payload_goes_in_parts(size: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    frames = [read_frame(frame) for frame in written(payload)]
    assert len(frames) == max(1, -(-size // MAX_PAYLOAD))
    assert b"".join(frame.payload for frame in frames) == payload
    assert [frame.more_follows for frame in frames] == [True] * (len(frames) - 1) + [False]
    assert [frame.continues for frame in frames] == [False] + [True] * (len(frames) - 1)


@given(st.binary(max_size=120))
@example(b"")
@example(b"\x01")
@example(binary("rooms/a", "said", b"abc")[:-1])
@example(binary("", "said", b"abc"))
@example(binary("rooms/a", "", b"abc"))
@example(binary("rooms/a", "said\n", b"abc"))
@example(binary("rooms/a", "said", b"abc", flags=8))
@example(b"\x02" + binary("rooms/a", "said", b"abc")[1:])
@example(binary("rooms/a", "said", b"abc") + b"\xff")
@example(binary("x" * 900, "said", b""))
@example(binary("rooms/a", "said", b"\0" * (MAX_PAYLOAD + 1)))
def test_other_bytes_are_no_frame(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        read_frame(data)


@given(st.data())
def test_a_frame_that_was_damaged_is_read_or_refused(data: st.DataObject) -> None:
    frame = bytearray(binary("rooms/a", "said", b"0123456789"))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(frame)))
    with contextlib.suppress(MalformedFrame):
        read_frame(bytes(frame[:end]))


# -- parts -----------------------------------------------------------------------------------------

LIMIT = 1024 * 1024


def complaint(parts: Parts, data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(BadAction) as caught:
        parts.read(data, limit)
    return caught.value.code


def test_parts_are_put_together_whatever_comes_in_between() -> None:
    parts = Parts()
    payload = b"x" * (2 * MAX_PAYLOAD + 5)
    first, second, third = written(payload, flags=WANTS_REPLY)
    assert parts.read(first, LIMIT) is None
    other = parts.read(binary("rooms/b", "said", b"in between"), LIMIT)
    assert other == Sent(None, "rooms/b", "said", b"in between", 10, 0, None)
    assert parts.read(second, LIMIT) is None
    whole = parts.read(third, LIMIT)
    assert whole == Sent(7, "rooms/a", "said", payload, len(payload), 7, 0.009)
    assert parts == Parts()


@pytest.mark.parametrize(
    ("begun", "then"),
    [
        pytest.param(None, binary("a", "b", b"c", flags=CONTINUES), id="nothing to continue"),
        pytest.param(MORE_FOLLOWS, binary("a", "b", b"c"), id="another message in between"),
        pytest.param(MORE_FOLLOWS, binary("a", "x", b"c", flags=CONTINUES), id="another type"),
        pytest.param(
            MORE_FOLLOWS, binary("a", "b", b"c", flags=CONTINUES, sequence=5), id="another number"
        ),
        pytest.param(
            MORE_FOLLOWS, binary("a", "b", b"", flags=CONTINUES | MORE_FOLLOWS), id="an empty part"
        ),
        pytest.param(None, binary("a", "open", b""), id="a reserved type"),
    ],
)
def test_what_does_not_go_together_is_forgotten(begun: int | None, then: bytes) -> None:
    parts = Parts()
    if begun is not None:
        parts.read(binary("a", "b", b"c", flags=begun), LIMIT)
    assert complaint(parts, then) == "malformed-message"
    assert parts == Parts()


def test_what_is_not_complete_is_bounded() -> None:
    parts = Parts()
    part = b"x" * 60_000
    parts.read(binary("a", "b", part, flags=MORE_FOLLOWS), 100_000)
    too_large = binary("a", "b", part, flags=MORE_FOLLOWS | CONTINUES)
    assert complaint(parts, too_large, 100_000) == "too-large"
    for topic in "abc":  # of all topics together
        parts.read(binary(topic, "b", part, flags=MORE_FOLLOWS), 100_000)
    assert complaint(parts, binary("d", "b", part, flags=MORE_FOLLOWS), 100_000) == "too-large"
    assert parts.size == 180_000


def test_a_message_is_not_cut_into_crumbs() -> None:
    parts = Parts()
    parts.read(binary("a", "b", b"x", flags=MORE_FOLLOWS), LIMIT)
    crumb = binary("a", "b", b"x", flags=MORE_FOLLOWS | CONTINUES)
    for _ in range(1023):
        parts.read(crumb, LIMIT)
    assert complaint(parts, crumb) == "too-large"
