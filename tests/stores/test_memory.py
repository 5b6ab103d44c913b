"""What is particular to the log in memory."""

from __future__ import annotations

import pytest

from django_live.core.events import Draft
from django_live.core.topics import History, Topic
from django_live.stores.memory import MemoryLog

pytestmark = pytest.mark.any_database


def test_every_instance_has_epochs_of_its_own(room: Topic) -> None:
    first, second = MemoryLog(), MemoryLog()
    assert first.heads([room])[room.key].epoch != second.heads([room])[room.key].epoch
    assert first.append(room, [Draft("a", "1")]).epoch != second.append(room, []).epoch


def test_memory_is_bounded_without_a_trim(room: Topic, room_class: type[Topic]) -> None:
    room_class.history = History(events=10)
    log = MemoryLog()
    for number in range(50):
        log.append(room, [Draft("a", "1", idempotency_key=f"k{number}")])
    life = log._lives[room.key]
    assert (len(life.events), len(life.uids), len(life.keys)) == (10, 10, 10)


def test_it_says_that_other_processes_do_not_see_it() -> None:
    assert not MemoryLog.shared
    assert not MemoryLog.uses_outbox
