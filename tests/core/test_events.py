"""Cursors that a client may bend, data that a browser could not read, types that are taken."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from django_live.core.events import (
    MAX_CURSOR_ENTRIES,
    MAX_CURSOR_LENGTH,
    Cursor,
    Position,
    check_type,
    encode_data,
    join_places,
    place_text,
    topic_key,
)
from django_live.exceptions import InvalidEvent, MalformedCursor

ORDERS, PRICES = topic_key("", "orders/42"), topic_key("", "prices")
POSITION = Position("Xk3v9QmP", 17)


def test_a_cursor_says_where_the_client_was() -> None:
    cursor = Cursor.parse(place_text(ORDERS, POSITION))
    place = cursor.get(ORDERS)
    assert place is not None
    assert place.position == POSITION
    assert place.genuine
    assert cursor.get(PRICES) is None


def test_a_place_without_a_position_says_that_the_client_was_there() -> None:
    place = Cursor.parse(place_text(ORDERS, None)).get(ORDERS)
    assert place is not None
    assert place.position is None
    assert place.genuine


def test_an_empty_text_is_a_newcomers_cursor() -> None:
    assert not Cursor.parse("")
    assert not Cursor.parse(",,")


def test_of_joined_cursors_the_first_that_speaks_of_a_topic_counts() -> None:
    text = join_places(
        [
            place_text(ORDERS, POSITION),
            "",
            place_text(ORDERS, Position("other", 1)),
            place_text(PRICES, Position("other", 2)),
        ]
    )
    cursor = Cursor.parse(text)
    assert cursor.get(ORDERS).position == POSITION  # type: ignore[union-attr]
    assert cursor.get(PRICES).position == Position("other", 2)  # type: ignore[union-attr]
    assert Cursor.parse(str(cursor)).get(PRICES) == cursor.get(PRICES)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace(".17.", ".18."),
        lambda t: t.replace("Xk3v9QmP", "Xk3v9QmQ"),
        lambda t: ("0" if t[0] != "0" else "1") + t[1:],
        lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
        lambda t: t.replace(".Xk3v9QmP.17", ""),
    ],
    ids=["offset", "epoch", "topic", "seal", "position"],
)
def test_a_cursor_that_was_changed_is_not_genuine(change: Any) -> None:
    text = change(place_text(ORDERS, POSITION))
    (place,) = Cursor.parse(text)._places.values()
    assert not place.genuine


def test_a_cursor_of_another_site_is_not_genuine() -> None:
    with override_settings(SECRET_KEY="another"):
        text = place_text(ORDERS, POSITION)
    assert Cursor.parse(text).get(ORDERS).genuine is False  # type: ignore[union-attr]


def test_a_cursor_outlives_the_rotation_of_the_secret_key() -> None:
    with override_settings(SECRET_KEY="old"):
        text = place_text(ORDERS, POSITION)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        assert Cursor.parse(text).get(ORDERS).genuine  # type: ignore[union-attr]
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older"]):
        assert not Cursor.parse(text).get(ORDERS).genuine  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "17",
        "id: 3f0a9c21b7de",
        place_text(ORDERS, POSITION) + ";",
        place_text(ORDERS, POSITION).upper(),
        place_text(ORDERS, POSITION) + "\n",
        "３" + place_text(ORDERS, POSITION)[1:],
        place_text(ORDERS, POSITION).replace(".17.", ".１７."),
        place_text(ORDERS, POSITION).replace(".17.", "." + "9" * 19 + "."),
        "," * (MAX_CURSOR_LENGTH + 1),
        ",".join([place_text(ORDERS, None)] * (MAX_CURSOR_ENTRIES + 1)),
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(MalformedCursor):
        Cursor.parse(text)


@given(st.text())
@example(place_text(ORDERS, POSITION))
def test_any_text_is_a_cursor_or_malformed_and_nothing_else(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except MalformedCursor:
        return
    assert str(cursor).isascii()


@given(
    st.text(),
    st.text(),
    st.from_regex(r"[A-Za-z0-9_-]{1,16}", fullmatch=True),
    st.integers(0, 10**18 - 1),
)
def test_every_place_survives_the_journey(
    namespace: str, name: str, epoch: str, offset: int
) -> None:
    namespace, name = (t.encode(errors="replace").decode() for t in (namespace, name))
    key = topic_key(namespace, name)
    place = Cursor.parse(place_text(key, Position(epoch, offset))).get(key)
    assert place is not None
    assert place.genuine
    assert place.position == Position(epoch, offset)


def test_topics_of_different_tenants_have_different_keys() -> None:
    assert topic_key("a", "b") != topic_key("", "a\0b"[:1] + "b") != topic_key("ab", "")


# -- data and types --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "null"),
        ({"a": [1, 2.5, True]}, '{"a":[1,2.5,true]}'),
        ("Größe 🧡", '"Größe 🧡"'),
        ("two\nlines\r", '"two\\nlines\\r"'),
        (Decimal("1.10"), '"1.10"'),
        (date(2026, 2, 3), '"2026-02-03"'),
        (datetime(2026, 2, 3, 4, 5, tzinfo=UTC), '"2026-02-03T04:05:00Z"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    ],
)
def test_data_becomes_one_line_of_json(data: Any, text: str) -> None:
    assert encode_data(data) == text


def endless() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    "data", [object(), {1, 2}, float("nan"), float("inf"), "\ud800", {(1, 2): 3}, endless()]
)
def test_data_that_no_browser_could_read_is_refused(data: Any) -> None:
    with pytest.raises(InvalidEvent, match="sent as JSON"):
        encode_data(data)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner)))
def test_encoded_data_is_one_line_and_says_the_same(data: Any) -> None:
    try:
        text = encode_data(data)
    except InvalidEvent:
        return  # lone surrogates
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text) == data


@pytest.mark.parametrize("type", ["a", "order.paid", "Order:paid-2", "_x", "a" * 64])
def test_a_name_is_a_type(type: str) -> None:
    assert check_type(type) == type


@pytest.mark.parametrize(
    "type",
    ["", "1a", "a b", "a\n", "größe", "a" * 65, "keep-alive", "open", "error", "stream-open", None],
)
def test_other_types_are_refused(type: Any) -> None:
    with pytest.raises(InvalidEvent):
        check_type(type)
