"""The publishers of a fault run: `python -m tests.faults.publishers JSON`.

The process forks one child per slot and forks it again when it died. A child publishes as the file of
orders says, and keeps a journal, so that what was committed is known also of a child that was killed:

    p <topic> <value>    it is about to publish this, or has
    a <topic> <value>    it tries this again, not knowing whether it is published
    c <topic> <value>    it is committed; for a store without transactions: the store has it
    x <topic> <value>    it was rolled back: nobody may see it
    k <why>              it kills itself now
    r <round>            the round is published

A value is `<slot>.<life>:<number>`; numbers of one life grow in the order of publishing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import Error as DatabaseError  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from django_live import publish  # noqa: E402
from django_live.core import bus, envelopes  # noqa: E402
from django_live.core.log import get_log  # noqa: E402
from django_live.exceptions import StoreError  # noqa: E402

TRIES_EVERY = 0.1


class RollBack(Exception):
    """Ends a transaction on purpose."""


class Publisher:
    """One life of one slot."""

    def __init__(self, folder: Path, slot: int, life: int, topics: Sequence[str]) -> None:
        self.orders_path = folder / "orders.json"
        self.name = f"{slot}.{life}"
        self.slot = slot
        self.topics = topics
        self.number = 0
        self.round = 0
        self.batches_done: set[str] = set()
        self.journal = os.open(
            folder / f"journal-{slot}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )
        self.orders: dict[str, Any] = {}
        self._orders_changed = 0
        self.dies = 0.0

    def note(self, *words: str) -> None:
        """One write to a file that was opened for appending: a kill leaves whole lines."""
        os.write(self.journal, (" ".join(words) + "\n").encode())

    def run(self) -> None:
        while True:
            self._read_orders()
            order = self.orders["phase"]
            if order == "stop" or not is_alive(self.orders["harness"]):
                return
            if self.orders["round"] > self.round:
                self.round = self.orders["round"]
                for topic in self.topics:
                    self.publish([topic])
                self.note("r", str(self.round))
            for name, batch in self.orders["batches"].items():
                if batch["slot"] == self.slot and name not in self.batches_done:
                    self.batches_done.add(name)
                    if self._is_first(name):  # a later life does not do it again
                        self._publish_batch(**batch)
                        self.note("b", name)
            if order == "load":
                self.dies = self.orders["dies"]
                self.publish(random.choices(self.topics, k=random.choice((1, 1, 1, 3))))
            self.dies = 0.0
            time.sleep(random.uniform(0.5, 1.5) * self.orders["pause"])

    def _is_first(self, name: str) -> bool:
        try:
            self.orders_path.with_name(name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _read_orders(self) -> None:
        changed = self.orders_path.stat().st_mtime_ns
        if changed != self._orders_changed:
            self.orders = json.loads(self.orders_path.read_text())
            self._orders_changed = changed

    def _next_value(self) -> str:
        self.number += 1
        return f"{self.name}:{self.number}"

    # -- one transaction, until it is done -------------------------------------------------------

    def publish(self, topics: Sequence[str]) -> None:
        """Publish one event to each of these topics, in one transaction; try until it is done."""
        events = [(topic, self._next_value()) for topic in topics]
        for topic, value in events:
            self.note("p", topic, value)
        while not self._try(events):
            time.sleep(TRIES_EVERY)
            if json.loads(self.orders_path.read_text())["phase"] == "stop":
                return
            for topic, value in events:
                self.note("a", topic, value)

    def _try(self, events: Sequence[tuple[str, str]]) -> bool:
        try:
            if get_log().uses_outbox:
                with transaction.atomic():
                    transaction.on_commit(lambda: self._committed(events))
                    for topic, value in events:
                        self._publish(topic, value)
            else:
                for topic, value in events:
                    self._publish(topic, value)
                    self.note("c", topic, value)
        except (DatabaseError, StoreError):
            connection.close()
            return False
        return True

    def _publish(self, topic: str, value: str) -> None:
        """The key makes it one event, however often it is tried."""
        publish(topic, "said", {"n": value, "t": time.time()}, idempotency_key=value)

    def _committed(self, events: Sequence[tuple[str, str]]) -> None:
        """The first hook after the commit."""
        for topic, value in events:
            self.note("c", topic, value)
        if random.random() < self.dies:
            die(self, "after the commit")

    def _publish_batch(self, *, slot: int, topic: str, count: int, rolls_back: bool) -> None:
        """Many events in one transaction."""
        events = [(topic, self._next_value()) for _ in range(count)]
        for _, value in events:
            self.note("x" if rolls_back else "p", topic, value)
        with contextlib.suppress(RollBack), transaction.atomic():
            for _, value in events:
                publish(topic, "said", {"n": value, "t": time.time()}, **BATCH_OPTIONS)
            if rolls_back:
                raise RollBack
        if not rolls_back:
            for _, value in events:
                self.note("c", topic, value)


BATCH_OPTIONS: dict[str, Any] = {}
"""What a negative control publishes with."""


def break_publisher(mechanism: str) -> None:
    """The mechanisms of `tests.servers.broken` that are a publisher's."""
    publisher: Any = Publisher
    match mechanism:
        case "commit":
            BATCH_OPTIONS["on_commit"] = False
        case "idempotency":
            publisher._publish = _publish_without_a_key
        case "outbox":
            publisher._publish = _publish_after_the_commit


def _publish_without_a_key(_publisher: Publisher, topic: str, value: str) -> None:
    publish(topic, "said", {"n": value, "t": time.time()})


def _publish_after_the_commit(_publisher: Publisher, topic: str, value: str) -> None:
    transaction.on_commit(lambda: publish(topic, "said", {"n": value, "t": time.time()}))


def is_alive(process: int) -> bool:
    """Whether who began this run is still there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def die(publisher: Publisher, why: str) -> None:
    publisher.note("k", why)
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_sending(publisher: Publisher) -> None:
    """Make the process end, now and then, between the log and the layer."""
    made: Callable[..., Any] = bus.envelopes

    def sometimes(*args: Any) -> Any:
        if random.random() < publisher.dies / 2:
            die(publisher, "before sending")
        return made(*args)

    bus.envelopes = sometimes  # type: ignore[assignment]


def live(folder: Path, slot: int, life: int, topics: Sequence[str]) -> None:
    publisher = Publisher(folder, slot, life, topics)
    die_before_sending(publisher)
    publisher.run()


def main(folder: str, slots: int, topics: list[str], frozen: Sequence[int] = ()) -> None:
    """Keep one child per slot alive until it ends by itself. `frozen` slots are of an older
    release."""
    if broken := os.environ.get("LIVE_TEST_BROKEN"):
        from tests.servers.broken import switch_off

        switch_off(broken)
        break_publisher(broken)
    lives = dict.fromkeys(range(slots), 0)
    running: dict[int, int] = {}
    while True:
        for slot in lives:
            if slot not in running.values():
                lives[slot] += 1
                pid = os.fork()
                if not pid:
                    if slot in frozen:
                        from tests.faults import older_release

                        older_release.install()
                    elif slot % 2:  # a transaction's topics in one message for every process
                        envelopes.PARCEL_FROM = 2
                    live(Path(folder), slot, lives[slot], topics)
                    os._exit(0)
                running[pid] = slot
                named = Path(folder) / f"pid-{slot}"
                named.with_suffix(".new").write_text(str(pid))
                named.with_suffix(".new").replace(named)
        pid, status = os.wait()
        slot = running.pop(pid)
        if os.waitstatus_to_exitcode(status) == 0:
            del lives[slot]
            if not lives:
                return
        elif os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(f"publisher {slot} failed: {status}")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
