# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""What may be published and subscribed to; names that have one spelling; no, unless somebody says yes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_live.core.topics import (
    History,
    Topic,
    TopicRegistry,
    Viewer,
    as_topic,
    check_name,
    registry,
    visible_from_timestamp,
)
from django_live.exceptions import InvalidTopic, UnknownTopic

SOME_UUID = UUID("0123456789abcdef0123456789abcdef")


@pytest.fixture(autouse=True)
def orders(declared: TopicRegistry) -> type[Topic]:
    class Orders(Topic):
        pattern = "of-tests/orders/<int:pk>"
        history = History(events=10)

    return Orders


def test_a_topic_has_the_name_that_its_parts_make(orders: type[Topic]) -> None:
    topic = orders(pk=42)
    assert topic.name == str(topic) == "of-tests/orders/42"
    assert topic.kwargs["pk"] == 42


def test_a_name_leads_to_its_topic(orders: type[Topic]) -> None:
    topic = registry.resolve("of-tests/orders/42")
    assert type(topic) is orders
    assert topic == orders(pk=42)
    assert hash(topic) == hash(orders(pk=42))
    assert topic != orders(pk=43)
    assert as_topic(topic) is topic
    assert as_topic("of-tests/orders/42") == topic


@pytest.mark.parametrize(
    "name", ["of-tests/orders/042", "of-tests/orders/+42", "of-tests/orders/", "of-tests/nothing"]
)
def test_another_spelling_is_another_topic_and_unknown(name: str) -> None:
    with pytest.raises(UnknownTopic):
        registry.resolve(name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a\x00", "a\u2028b", "a\u200bb", "\ud800", "x" * 201, None, 7]
)
def test_what_cannot_be_a_name_is_no_topic(name: Any) -> None:
    with pytest.raises(InvalidTopic):
        check_name(name)
    with pytest.raises(InvalidTopic):
        registry.resolve(name)


def test_every_converter_makes_a_name_and_reads_it_again() -> None:
    class Everything(Topic):
        pattern = "all/<int:i>/<str:s>/<slug:l>/<uuid:u>/<bare>/<path:p>"

    topic = Everything(i=7, s="größe", l="a-b_c", u=SOME_UUID, bare="x", p="a/b/c")
    again = registry.resolve(topic.name)
    assert topic.name == f"all/7/größe/a-b_c/{SOME_UUID}/x/a/b/c"
    assert again.kwargs == topic.kwargs
    assert again.u == SOME_UUID  # type: ignore[attr-defined]


@given(st.text(), st.text())
def test_a_topic_has_a_name_that_leads_back_to_it_or_none(s: str, p: str) -> None:
    with registry.isolated():

        class Texts(Topic):
            pattern = "texts/<str:s>/<path:p>"

        topic = Texts(s=s, p=p)
        try:
            name = topic.name
        except InvalidTopic:
            return
        assert registry.resolve(name) == topic


@pytest.mark.parametrize("pk", ["x", None, -1, "1/2", 1.5])
def test_parts_that_do_not_fit_make_no_name(orders: type[Topic], pk: Any) -> None:
    with pytest.raises(InvalidTopic):
        _ = orders(pk=pk).name


@pytest.mark.parametrize("parts", [{}, {"pk": 1, "more": 2}, {"id": 1}])
def test_the_parts_have_to_be_those_of_the_pattern(
    orders: type[Topic], parts: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTopic, match="takes pk"):
        orders(**parts)


def test_a_topic_without_a_pattern_is_no_topic() -> None:
    class Base(Topic):
        pass

    with pytest.raises(InvalidTopic, match="no pattern"):
        Base()


def test_a_part_must_not_hide_what_a_topic_is() -> None:
    for part in ("name", "key", "history", "snapshot", "namespace"):
        with pytest.raises(InvalidTopic, match="another name"):
            type("Bad", (Topic,), {"pattern": f"bad/<str:{part}>"})


def test_two_topics_cannot_have_one_pattern(orders: type[Topic]) -> None:
    with pytest.raises(InvalidTopic, match="both declare"):
        type("Another", (Topic,), {"pattern": orders.pattern, "__module__": "elsewhere"})


def test_a_module_that_is_imported_again_declares_again(orders: type[Topic]) -> None:
    again = type(
        "Orders",
        (Topic,),
        {
            "pattern": orders.pattern,
            "__module__": orders.__module__,
            "__qualname__": orders.__qualname__,
        },
    )
    assert type(registry.resolve("of-tests/orders/1")) is again


def test_what_is_declared_in_an_isolated_registry_is_forgotten() -> None:
    with registry.isolated():

        class Passing(Topic):
            pattern = "passing"

        assert registry.resolve("passing") == Passing()
    with pytest.raises(UnknownTopic):
        registry.resolve("passing")


def test_a_tenants_topic_is_another_topic(orders: type[Topic]) -> None:
    ours, theirs = orders(pk=1, namespace="us"), orders(pk=1, namespace="them")
    assert ours.name == theirs.name
    assert ours.key != theirs.key
    assert ours != theirs
    assert registry.resolve("of-tests/orders/1", "us") == ours


def test_nothing_is_allowed_unless_somebody_allows_it(orders: type[Topic]) -> None:
    topic, anybody = orders(pk=1), Viewer()
    assert topic.can_subscribe(anybody) is False
    assert topic.can_send(anybody) is False
    assert topic.visible_from(anybody) is None
    assert not topic.has_snapshot()


def test_the_overflow_rule_follows_from_the_history() -> None:
    def rule(**attributes: Any) -> str:
        some: type[Topic] = type("Some", (Topic,), attributes)
        return some.overflow_rule()

    assert rule() == "drop"
    assert rule(history=History()) == "replay"
    assert rule(history=History(), overflow="disconnect") == "disconnect"
    assert rule(overflow="conflate") == "conflate"


@pytest.mark.parametrize("bad", [{"events": 0}, {"age": timedelta(0)}, {"age": timedelta(-1)}])
def test_a_history_keeps_something(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidTopic):
        History(**bad)


def test_a_bound_is_a_moment() -> None:
    assert visible_from_timestamp(None) == 0.0
    assert visible_from_timestamp(datetime(1970, 1, 2, tzinfo=UTC)) == 86400.0


# -- viewers ---------------------------------------------------------------------------------------


def test_a_viewers_user_is_loaded_when_asked_for_and_again_when_it_is_refreshed() -> None:
    loaded: list[str] = []

    def load(viewer: Viewer) -> str:
        loaded.append(str(viewer.user_id))
        return f"user {len(loaded)}"

    viewer = Viewer(user_id="7", session_key="s", namespace="n", scopes=frozenset("x"), source=load)
    assert not loaded
    assert viewer.user == viewer.user == "user 1"
    viewer.forget_user()
    assert viewer.user == "user 2"
    fresh = viewer.refreshed()
    assert (fresh.user_id, fresh.session_key, fresh.namespace, fresh.scopes) == (
        "7",
        "s",
        "n",
        frozenset("x"),
    )
    assert fresh.user == "user 3"
    assert viewer.user == "user 2"


def test_a_viewers_text_shows_no_secret() -> None:
    assert "secret" not in repr(Viewer(user_id="7", session_key="secret"))


def test_parts_that_a_name_does_not_lead_back_to_make_no_topic(declared: TopicRegistry) -> None:
    """Permission would be asked of other parts than those that were published to."""

    class Pair(Topic):
        pattern = "of-tests/pairs/<str:a>-<str:b>"

    topic = registry.resolve("of-tests/pairs/x-y-z")
    assert Pair(a=topic.kwargs["a"], b=topic.kwargs["b"]).name == "of-tests/pairs/x-y-z"
    others = [("x", "y-z"), ("x-y", "z")]
    others.remove((topic.kwargs["a"], topic.kwargs["b"]))
    with pytest.raises(InvalidTopic, match="read back"):
        _ = Pair(a=others[0][0], b=others[0][1]).name


def test_a_name_that_another_class_answers_for_makes_no_topic(orders: type[Topic]) -> None:
    class ByName(Topic):
        pattern = "of-tests/orders/<str:reference>"

    assert ByName(reference="new").name == "of-tests/orders/new"
    with pytest.raises(InvalidTopic, match="Make their patterns differ"):
        _ = ByName(reference="42").name


def test_a_topic_goes_into_another_namespace(orders: type[Topic]) -> None:
    topic = orders(pk=42)
    assert topic.within("") is topic
    assert topic.within("acme") == orders(pk=42, namespace="acme")
