"""Text messages of a client: an action, or a code of the protocol; never anything else."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_live.transports.actions import (
    BadAction,
    Ping,
    Pong,
    Sent,
    Subscribe,
    Unsubscribe,
    read_text,
)


def test_actions() -> None:
    assert read_text('{"action":"ping"}') == Ping()
    assert read_text('{"action":"pong","more":1}') == Pong()
    subscribe = '{"action":"subscribe","ref":1,"topics":["a","b","a"],"cursor":"c"}'
    assert read_text(subscribe) == Subscribe(1, ["a", "b"], "c")
    assert read_text('{"action":"subscribe","topics":["a"],"cursor":null}') == Subscribe(
        None, ["a"], ""
    )
    assert read_text('{"action":"unsubscribe","ref":"x","topics":["a"]}') == Unsubscribe("x", ["a"])
    text = '{"action":"send","ref":1.5,"topic":"rooms/a","type":"say","data":{"a":[1]}}'
    assert read_text(text) == Sent(1.5, "rooms/a", "say", {"a": [1]}, len(text))


SEND = '{"action":"send","ref":1,"topic":"rooms/a","type":"say","data":%s}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        "\x00",
        "{}",
        '{"action":null}',
        '{"action":"dance"}',
        '{"action":["send"]}',
        '{"action":"ping","ref":true}',
        '{"action":"ping","ref":{}}',
        '{"action":"ping","ref":"' + "x" * 65 + '"}',
        '{"action":"ping","ref":1' + "0" * 64 + "}",
        '{"action":"ping","ref":1' + "0" * 5000 + "}",
        '{"action":"ping","ref":1e999}',
        '{"action":"ping","ref":NaN}',
        '{"action":"subscribe"}',
        '{"action":"subscribe","topics":"a"}',
        '{"action":"subscribe","topics":[]}',
        '{"action":"subscribe","topics":[1]}',
        '{"action":"subscribe","topics":["a"],"cursor":1}',
        json.dumps({"action": "subscribe", "topics": ["a"] * 1001}),
        '{"action":"unsubscribe","topics":{}}',
        '{"action":"send"}',
        '{"action":"send","topic":1,"type":"say"}',
        '{"action":"send","topic":"rooms/a"}',
        '{"action":"send","topic":"rooms/a","type":"no type"}',
        '{"action":"send","topic":"rooms/a","type":"stream-open"}',
        SEND % "NaN",
        SEND % "-Infinity",
        SEND % "1e999",
        SEND % '"\\ud800"',
        SEND % '{"\\uDFFF":1}',
        SEND % ("[" * 100_000 + "]" * 100_000),
    ],
)
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(BadAction) as caught:
        read_text(text)
    assert caught.value.code == "malformed-message"


def test_a_pair_of_surrogates_is_a_character() -> None:
    action = read_text(SEND % '"\\ud83d\\ude00"')
    assert isinstance(action, Sent)
    assert action.data == "😀"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(["action", "ref", "topic", "topics", "type", "data", "cursor"])
WORDS = st.sampled_from(["send", "subscribe", "unsubscribe", "ping", "pong", "rooms/a", "say"])


@given(
    st.one_of(st.text(), st.dictionaries(FIELDS, JSON | WORDS | st.lists(WORDS)).map(json.dumps))
)
def test_whatever_comes_is_an_action_or_a_code(text: str) -> None:
    with contextlib.suppress(BadAction):
        read_text(text)
