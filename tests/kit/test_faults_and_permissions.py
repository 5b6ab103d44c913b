"""Faults that a test asks for, and what the package makes of them; who may do what, as a table."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User

from django_live import Topic, Viewer, apublish, publish
from django_live.core.log import get_log
from django_live.core.topics import registry
from django_live.exceptions import StoreError
from django_live.testing import (
    Faults,
    assert_permissions,
    faulty_layer,
    faulty_store,
    open_sse,
    permission_matrix,
)
from tests.asgi import application
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_layer_that_loses_everything_costs_no_event() -> None:
    async def work() -> list[Any]:
        with faulty_layer(lose=1.0) as faults:
            async with open_sse(application, "open/a") as stream:
                for number in range(3):
                    await apublish("open/a", "said", number)
                # What the bus lost is read from the log, within HEAD_CHECK.
                told = [(await stream.event("said", timeout=15)).data for _ in range(3)]
            assert faults.count >= 3
            return told

    assert asyncio.run(work()) == [0, 1, 2]


def test_what_comes_twice_is_heard_once_and_the_control_loses_nothing() -> None:
    async def work(repeat: float = 0.0) -> tuple[list[Any], int]:
        with faulty_layer(repeat=repeat) as faults:
            async with open_sse(application, "open/a") as stream:
                for number in range(5):
                    await apublish("open/a", "said", number)
                told = [(await stream.event("said")).data for _ in range(5)]
                with pytest.raises(TimeoutError):
                    await stream.event("said", timeout=0.2)
            return told, faults.count

    assert asyncio.run(work(repeat=1.0)) == ([0, 1, 2, 3, 4], 5)
    assert asyncio.run(work()) == ([0, 1, 2, 3, 4], 0)


def test_a_layer_that_is_down_and_comes_back() -> None:
    async def work() -> list[Any]:
        with faulty_layer() as faults:
            async with open_sse(application, "open/a") as stream:
                faults.down = True
                await apublish("open/a", "said", 1)
                faults.down = False
                await apublish("open/a", "said", 2)
                return [(await stream.event("said", timeout=15)).data for _ in range(2)]

    assert asyncio.run(work()) == [1, 2]


def test_a_store_that_is_down_refuses_and_afterwards_is_the_one_of_before() -> None:
    publish("open/a", "said", 1)
    before = type(get_log())
    with faulty_store(down=True) as faults:
        with pytest.raises(StoreError, match="asked for"):
            get_log().heads([])
        assert faults.count == 1
        faults.down = False
        assert len(get_log().read(as_topic("open/a"), 0, 10, 10_000).events) <= 1
        faults.delay = 0.05
        began = time.monotonic()
        get_log().heads([])
        assert time.monotonic() - began >= 0.05
    assert type(get_log()) is before
    with faulty_store() as first, faulty_store(down=True) as second:
        with pytest.raises(StoreError):
            get_log().heads([])
        assert (first.count, second.count) == (0, 1)


def as_topic(name: str) -> Topic:
    return registry.resolve(name)


def test_the_same_seed_makes_the_same_faults() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed=seed)
        return [faults.strikes(0.5) for _ in range(50)]

    assert drawn(3) == drawn(3) != drawn(4)


# -- permissions -----------------------------------------------------------------------------------


def people() -> dict[str, Any]:
    anna, bert = User.objects.create_user("anna"), User.objects.create_user("bert")
    return {"anna": anna, "bert": Viewer(user=bert), "nobody": None}


def test_a_matrix_of_who_may_do_what() -> None:
    who = people()
    order = Order.objects.create(customer=who["anna"])
    name = f"orders/{order.pk}"
    assert permission_matrix([name, "open/a"], who) == {
        name: {"anna": "subscribe", "bert": "", "nobody": ""},
        "open/a": dict.fromkeys(who, "subscribe"),
    }
    assert_permissions({name: {"anna": "subscribe"}}, who)
    with pytest.raises(AssertionError) as raised:
        assert_permissions({name: {"bert": "subscribe send"}}, who)
    assert f"{name}: anna may subscribe, expected nothing" in str(raised.value)
    assert f"{name}: bert may nothing, expected subscribe send" in str(raised.value)
    assert "nobody" not in str(raised.value)


def test_coroutines_are_asked_and_mistakes_are_no_permission() -> None:
    with registry.isolated():

        class Late(Topic):
            pattern = "late"

            async def can_subscribe(self, viewer: Viewer) -> bool:
                return not isinstance(viewer.user, AnonymousUser)

            async def can_send(self, viewer: Viewer) -> bool:
                return True

        who = people()
        assert permission_matrix(["late"], who)["late"] == {
            "anna": "subscribe send",
            "bert": "subscribe send",
            "nobody": "send",
        }
        for expected, fault in (
            ({"late": {"carl": "send"}}, "carl"),
            ({"late": {"anna": "read"}}, "read"),
        ):
            with pytest.raises(ValueError, match=fault):
                assert_permissions(expected, who)
