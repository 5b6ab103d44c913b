"""A process that writes very many rows at once, and how much it grew: for `test_bulk_memory.py`."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

from django.contrib.auth.models import User

from django_live.core import commits, sweeping
from django_live.features import bulk, packing, telling
from django_live.features.bulk import LiveQuerySet
from django_live.features.changes import suppress
from django_live.models import PendingEvent
from tests.testapp.models import Order

WITHOUT_BOUNDS = [
    (bulk, "BATCH"),
    (telling, "BATCH"),
    (packing, "MANY"),
    (commits, "REMEMBERED"),
    (commits, "MANY_TOPICS"),
]


def _memory(name: str) -> int:
    """Bytes: "VmRSS" is what this process has now, "VmHWM" the most since the mark was reset."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def growth(work: Callable[[], Any]) -> int:
    """Bytes by which this process grew at most while the work was done, and told."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the mark
    before = _memory("VmRSS")
    work()
    assert sweeping.errands.flush(600)
    return _memory("VmHWM") - before


@contextmanager
def unbounded(is_so: bool) -> Iterator[None]:
    """The same without any bound on what is held at once."""
    patches = [mock.patch.object(*which, 10**9) for which in WITHOUT_BOUNDS if is_so]
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


def write(
    rows: int, *, remembered: int = commits.REMEMBERED, bounded: bool = True, long: bool = False
) -> None:
    """Do these to so many rows; print by how many bytes each grew this process. ``remembered``: objects
    of which one transaction knows what it has told of them."""
    commits.REMEMBERED = remembered
    ann = User.objects.create(username="ann")
    orders: LiveQuerySet[Order] = LiveQuerySet(Order)
    grown: dict[str, int] = {}

    def new(count: int) -> list[Order]:
        return [Order(customer=ann, total=Decimal(n).scaleb(-2)) for n in range(count)]

    orders.bulk_create(new(500))  # what is made once
    assert sweeping.errands.flush(60)
    with suppress():
        for _ in range(0, rows - 500, 500):
            orders.bulk_create(new(500))
    with unbounded(not bounded):
        grown["update"] = growth(lambda: orders.update(status="sent"))
        grown["delete"] = growth(lambda: orders.all().delete())
        assert not Order.objects.exists()
        made = new(rows)
        grown["bulk_create"] = growth(lambda: orders.bulk_create(made))
        if long:  # Django itself takes its time for it
            for one in made:
                one.status = "paid"
            grown["bulk_update"] = growth(
                lambda: orders.bulk_update(made, ["status"], batch_size=100)
            )
    assert not PendingEvent.objects.exists()
    print(json.dumps(grown))  # noqa: T201
