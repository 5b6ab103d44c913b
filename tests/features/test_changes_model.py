"""Changes against a plain model of what each topic should hear, over random transactions."""

from __future__ import annotations

from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_live import publish
from django_live.core.commits import Commit
from django_live.models import Head, PendingEvent, StoredEvent
from tests.features.conftest import listener
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

PKS = (1, 2)
CUSTOMERS = (1, 2)
pks = st.sampled_from(PKS)
customers = st.sampled_from(CUSTOMERS)


class Undo(Exception):
    """Rolls a block back."""


@dataclass
class World:
    """What one savepoint sees: whose each order is, and what was done so far."""

    orders: dict[int, tuple[int, str]] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    said: list[int] = field(default_factory=list)


class Transactions(RuleBasedStateMachine):
    """Orders of two customers are saved, moved and deleted, in and out of transactions."""

    statuses = 0

    def __init__(self) -> None:
        super().__init__()
        self.heard = listener()
        self.committed = World()
        self.stack: list[World] = []
        self.blocks: list[AbstractContextManager[None]] = []
        self.held: dict[int, Order] = {}
        self.stale: set[int] = set(PKS)

    @initialize()
    def clean(self) -> None:
        for model in (Order, PendingEvent, StoredEvent, Head):
            model.objects.all().delete()

    # -- what a program does -----------------------------------------------------------------------

    @rule()
    def begin(self) -> None:
        block = transaction.atomic()
        block.__enter__()
        self.blocks.append(block)
        before = self.stack[-1] if self.stack else World(self.committed.orders)
        self.stack.append(deepcopy(before))

    @precondition(lambda self: self.blocks)
    @rule()
    def commit(self) -> None:
        self.blocks.pop().__exit__(None, None, None)
        world = self.stack.pop()
        if self.stack:
            self.stack[-1] = world
        else:
            self.expect(world)

    @precondition(lambda self: self.blocks)
    @rule()
    def roll_back(self) -> None:
        self.blocks.pop().__exit__(Undo, Undo(), None)
        self.stack.pop()
        if not self.stack:
            self.expect(World(self.committed.orders))

    @rule(pk=pks, customer=customers, how=st.sampled_from(["fresh", "held", "made", "part"]))
    def save(self, pk: int, customer: int, how: str) -> None:
        exists = pk in self.now.orders
        if how in ("fresh", "part") and not exists:
            how = "made"
        order = self.instance(pk, how)
        Transactions.statuses += 1
        order.status = f"s{Transactions.statuses}"
        order.customer_id = customer
        if how == "part":
            order.save(update_fields=["status", "customer"])
        else:
            order.save()
        self.done(pk, (customer, order.status), by_held=how == "held")

    @rule(pk=pks, how=st.sampled_from(["fresh", "made", "queryset"]))
    def delete(self, pk: int, how: str) -> None:
        if pk not in self.now.orders:
            return
        if how == "queryset":
            Order.objects.filter(pk=pk).delete()
        else:
            self.instance(pk, how).delete()
        self.done(pk, None, by_held=False)

    @precondition(lambda self: self.blocks)
    @rule(pk=pks, customer=customers, how=st.sampled_from(["fresh", "held", "made"]))
    def try_in_vain(self, pk: int, customer: int, how: str) -> None:
        """Where the faults are, so that chance comes by more often."""
        self.begin()
        self.save(pk, customer, how)
        self.roll_back()

    @rule(n=st.integers(0, 99))
    def say(self, n: int) -> None:
        publish("open/hall", "said", n)
        if self.stack:
            self.stack[-1].said.append(n)
        else:
            self.expect(World(self.committed.orders, said=[n]))

    # -- what it looks like from outside -----------------------------------------------------------

    @invariant()
    def nothing_is_told_early_or_twice(self) -> None:
        if self.stack:
            return  # on this connection one would see the open transaction's own rows
        for topic in self.topics():
            assert self.heard(topic) == []

    def expect(self, world: World) -> None:
        """The outermost transaction is over; ``world`` is what it committed."""
        expected: dict[str, list[tuple[str, Any]]] = {topic: [] for topic in self.topics()}
        for pk in sorted(world.touched):
            shown_before = self.shown(pk, self.committed.orders.get(pk))
            row = world.orders.get(pk)
            shown_after = self.shown(pk, row)
            for topic in shown_before | shown_after:
                if row is None or topic not in shown_after:
                    expected[topic].append(("deleted", {"pk": pk}))
                else:
                    type = "updated" if topic in shown_before else "created"
                    data = {"pk": pk, "status": row[1], "total": "0.00"}
                    expected[topic].append((type, data))
        expected["open/hall"] = [("said", n) for n in world.said]
        for topic, events in expected.items():
            told = self.heard(topic)
            if topic != "open/hall":
                told.sort(key=lambda event: event[1]["pk"])
            assert told == events, topic
        self.committed = World(world.orders)

    @property
    def now(self) -> World:
        return self.stack[-1] if self.stack else self.committed

    def done(self, pk: int, row: tuple[int, str] | None, *, by_held: bool) -> None:
        if not by_held:
            self.stale.add(pk)
        world = deepcopy(self.now)
        world.orders.pop(pk, None)
        if row is not None:
            world.orders[pk] = row
        world.touched.add(pk)
        if self.stack:
            self.stack[-1] = world
        else:
            self.expect(world)

    def instance(self, pk: int, how: str) -> Order:
        """A Python object for this row. The held one outlives transactions, as in a worker."""
        if how == "made":
            return Order(pk=pk)
        if how == "fresh":
            return Order.objects.get(pk=pk)
        if how == "part":
            return Order.objects.only("total").get(pk=pk)
        if pk in self.stale or pk not in self.held:
            # Others have written the row, and a program that goes on with what it knew is wrong.
            self.held[pk] = Order(pk=pk)
            if pk in self.now.orders:
                self.held[pk].refresh_from_db()
                self.held[pk]._state.adding = False
            self.stale.discard(pk)
        return self.held[pk]

    @staticmethod
    def shown(pk: int, row: tuple[int, str] | None) -> set[str]:
        return set() if row is None else {f"orders/{pk}", f"customers/{row[0]}/orders"}

    @staticmethod
    def topics() -> list[str]:
        return [
            "open/hall",
            *(f"orders/{pk}" for pk in PKS),
            *(f"customers/{pk}/orders" for pk in CUSTOMERS),
        ]

    def teardown(self) -> None:
        while self.blocks:
            self.blocks.pop().__exit__(Undo, Undo(), None)


@pytest.fixture
def machine() -> type[Transactions]:
    """The machine, with two users in the database."""
    for pk in CUSTOMERS:
        User.objects.create(pk=pk, username=f"user{pk}")
    return Transactions


ENOUGH = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(300)
def test_every_topic_hears_what_was_committed_once(machine: type[Transactions]) -> None:
    run_state_machine_as_test(machine, settings=ENOUGH)
    assert not connection.in_atomic_block


def test_the_machine_notices_when_rolled_back_rows_are_not_looked_for(
    machine: type[Transactions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: remember only the rows that were written last."""

    def forgetful(self: Commit, group: Any, *, added: Any, **kwargs: Any) -> None:
        self._rows[group] = dict.fromkeys(added, frozenset())
        self._group_of.update(dict.fromkeys(self._rows[group], group))

    monkeypatch.setattr(Commit, "note", forgetful)
    run = machine()
    run.clean()
    run.begin()
    run.save(1, 1, "made")
    run.try_in_vain(1, 2, "fresh")
    run.save(1, 1, "fresh")
    with pytest.raises(AssertionError, match="orders/1"):
        run.commit()
    run.teardown()
