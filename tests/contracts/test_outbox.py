"""The contract of the outbox: `django_live.core.outbox.Outbox`, sentence by sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

import pytest
from django.db import transaction

from django_live.core.bundles import Bundle, Told, bundle_key, pack
from django_live.core.events import Draft, Event, encode_data
from django_live.core.log import EventLog, get_log
from django_live.core.outbox import Entry, Numbered, Outbox, get_outbox
from django_live.core.topics import History, Topic, registry
from django_live.exceptions import StoreError
from django_live.stores.numbering import TOPICS_AT_ONCE
from django_live.stores.pending import BATCH
from tests.contracts.conftest import FakeClock, in_threads

USING = "default"
PLENTY = 10_000_000


@pytest.fixture
def log(log_behind_outbox: EventLog) -> EventLog:
    """The log that is numbered into."""
    return log_behind_outbox


@pytest.fixture
def outbox(log: EventLog) -> Outbox:  # noqa: ARG001 - it has to be prepared
    """The project's outbox."""
    return get_outbox()


def entry(topic: Topic, text: str, key: str = "") -> Entry:
    return Entry(topic, Draft(type="said", data=encode_data(text), idempotency_key=key))


def commit(outbox: Outbox, *entries: Entry) -> list[int]:
    """What a caller does whose process ends right after its commit."""
    with transaction.atomic(USING):
        return outbox.add(entries, USING)


def events_of(batches: Iterable[Numbered], topic: Topic) -> list[Event]:
    return [event for batch in batches if batch.topic == topic for event in batch.appended.events]


def texts(events: Iterable[Event]) -> list[str]:
    return [json.loads(event.data) for event in events]


def kept(topic: Topic) -> list[str]:
    return texts(get_log().read(topic, 0, limit=PLENTY, max_bytes=PLENTY).events)


def number(outbox: Outbox, *topics: Topic, also: Sequence[Entry] = ()) -> list[Numbered]:
    return list(outbox.number(topics, USING, also=also))


# -- rows ------------------------------------------------------------------------------------------


def test_rows_have_ids_that_grow(outbox: Outbox, room: Topic) -> None:
    ids = commit(outbox, entry(room, "a"), entry(room, "b"))
    ids += commit(outbox, entry(room, "c"))
    assert ids == sorted(set(ids))
    assert len(ids) == 3


def test_rows_give_back_what_was_put_in(
    outbox: Outbox, room_class: type[Topic], signal: Topic
) -> None:
    theirs = room_class(title="Röom", namespace="acme")
    full = Draft("said", '"\\u0000 \u2028 \U0001f9e1"', "c1f0", "key", "field")
    entries = [Entry(theirs, full), Entry(signal, full), entry(theirs, "plain")]
    ids = commit(outbox, *entries)
    found = outbox.pending(ids[::-1], USING)
    assert list(found.items()) == list(zip(ids, entries, strict=True))
    assert next(iter(found.values())).topic.namespace == "acme"


def test_a_rollback_takes_the_rows(outbox: Outbox, room: Topic) -> None:
    with transaction.atomic(USING):
        ids = outbox.add([entry(room, "a")], USING)
        transaction.set_rollback(True, USING)
    assert outbox.pending(ids, USING) == {}
    assert number(outbox, room) == []
    assert kept(room) == []


def test_a_savepoint_takes_only_its_own(outbox: Outbox, room: Topic) -> None:
    with transaction.atomic(USING):
        ids = outbox.add([entry(room, "before")], USING)
        with transaction.atomic(USING):
            ids += outbox.add([entry(room, "inside")], USING)
            transaction.set_rollback(True, USING)
        ids += outbox.add([entry(room, "after")], USING)
        assert [e.draft.data for e in outbox.pending(ids, USING).values()] == [
            '"before"',
            '"after"',
        ]
    number(outbox, room)
    assert kept(room) == ["before", "after"]


def test_rows_can_be_taken_back(outbox: Outbox, room: Topic) -> None:
    with transaction.atomic(USING):
        first, second = outbox.add([entry(room, "a"), entry(room, "b")], USING)
        outbox.remove([first], USING)
        outbox.remove([], USING)
        assert list(outbox.pending([first, second], USING)) == [second]
    number(outbox, room)
    assert kept(room) == ["b"]


def test_rows_of_undeclared_topics_are_not_shown(outbox: Outbox, room: Topic) -> None:
    with registry.isolated():

        class Gone(Topic):
            pattern = "gone"

        ids = commit(outbox, entry(Gone(), "a"), entry(room, "b"))
    assert [e.topic for e in outbox.pending(ids, USING).values()] == [room]


# -- numbering -------------------------------------------------------------------------------------


def test_committed_rows_become_events(outbox: Outbox, log: EventLog, room: Topic) -> None:
    commit(outbox, entry(room, "a"), entry(room, "b"))
    batches = number(outbox, room)
    events = events_of(batches, room)
    assert texts(events) == ["a", "b"]
    assert [event.offset for event in events] == [1, 2]
    assert {batch.appended.epoch for batch in batches} == {log.heads([room])[room.key].epoch}
    assert log.read(room, 0, limit=10, max_bytes=PLENTY).events == events


def test_a_row_is_numbered_once(outbox: Outbox, room: Topic) -> None:
    ids = commit(outbox, entry(room, "a"))
    number(outbox, room)
    assert outbox.pending(ids, USING) == {}
    assert number(outbox, room) == []
    assert kept(room) == ["a"]


def test_rows_that_others_left_are_numbered_first(outbox: Outbox, room: Topic) -> None:
    commit(outbox, entry(room, "left behind"))
    commit(outbox, entry(room, "own"))
    assert texts(events_of(number(outbox, room), room)) == ["left behind", "own"]


def test_other_topics_are_left_alone(outbox: Outbox, room: Topic, room_class: type[Topic]) -> None:
    other = room_class(title="kitchen")
    commit(outbox, entry(room, "a"), entry(other, "b"))
    assert {batch.topic for batch in number(outbox, room)} == {room}
    assert kept(other) == []


def test_many_topics_are_numbered_together(outbox: Outbox, room_class: type[Topic]) -> None:
    rooms = [room_class(title=str(number)) for number in range(30)]
    commit(outbox, *(entry(room, f"{room} {n}") for n in range(3) for room in rooms))
    batches = number(outbox, *rooms)
    for room in rooms:
        assert texts(events_of(batches, room)) == [f"{room} {n}" for n in range(3)]


def test_an_event_outside_a_transaction_comes_after_older_rows(outbox: Outbox, room: Topic) -> None:
    commit(outbox, entry(room, "older"))
    events = events_of(number(outbox, room, also=[entry(room, "own")]), room)
    assert texts(events) == ["older", "own"]
    assert [event.offset for event in events] == [1, 2]
    assert number(outbox, room) == []


def test_events_of_several_topics_outside_a_transaction(
    outbox: Outbox, room: Topic, room_class: type[Topic], signal: Topic
) -> None:
    other = room_class(title="kitchen")
    also = [entry(topic, str(n)) for n in range(3) for topic in (room, other, signal)]
    batches = number(outbox, room, other, signal, also=also)
    for topic in (room, other, signal):
        assert texts(events_of(batches, topic)) == ["0", "1", "2"]


def test_rows_of_topics_of_which_there_is_no_new_event_are_numbered_too(
    outbox: Outbox, room: Topic, room_class: type[Topic]
) -> None:
    other = room_class(title="kitchen")
    number(outbox, room, other, also=[entry(room, "0"), entry(other, "0")])  # both have a head
    commit(outbox, entry(other, "waits"))
    batches = number(outbox, room, other, also=[entry(room, "own")])
    assert texts(events_of(batches, room)) == ["own"]
    assert texts(events_of(batches, other)) == ["waits"]


def test_more_than_a_batch_waits_before_an_event_outside_a_transaction(
    outbox: Outbox, room: Topic
) -> None:
    commit(outbox, *(entry(room, str(n)) for n in range(BATCH + 100)))
    events = events_of(number(outbox, room, also=[entry(room, "own")]), room)
    assert texts(events) == [*(str(n) for n in range(BATCH + 100)), "own"]


def test_without_history_events_have_no_offset_and_rest_nowhere(
    outbox: Outbox, log: EventLog, signal: Topic
) -> None:
    draft = Draft("moved", "1", exclude="c1", conflate="cursor")
    commit(outbox, Entry(signal, draft))
    (batch,) = number(outbox, signal)
    assert batch.appended == ("", [Event("moved", "1", exclude="c1", conflate="cursor")])
    assert number(outbox, signal) == []
    assert log.heads([signal])[signal.key].last == 0


def test_an_idempotency_key_counts_once(outbox: Outbox, room: Topic) -> None:
    commit(outbox, entry(room, "first", "k"))
    number(outbox, room)
    commit(outbox, entry(room, "again", "k"), entry(room, "other", "k2"))
    number(outbox, room, also=[entry(room, "once more", "k")])
    assert kept(room) == ["first", "other"]


def test_a_large_transaction_is_numbered_in_batches(
    outbox: Outbox, log: EventLog, room: Topic
) -> None:
    most = 2 * BATCH + 100
    commit(outbox, *(entry(room, str(n)) for n in range(most)))
    seen: list[str] = []
    for batch in outbox.number([room], USING):
        assert len(batch.appended.events) <= BATCH
        seen += texts(batch.appended.events)
        # What is yielded can be read by everybody.
        (last,) = in_threads(1, lambda _: log.heads([room])[room.key].last)
        assert last == len(seen)
    assert seen == [str(n) for n in range(most)]


def test_numbering_that_stops_half_way_loses_nothing(
    outbox: Outbox, room_class: type[Topic]
) -> None:
    room_class.history = History(events=10_000)
    room = room_class(title="lobby")
    most = BATCH + 100
    commit(outbox, *(entry(room, str(n)) for n in range(most)))
    next(iter(outbox.number([room], USING)))
    assert len(kept(room)) == BATCH
    number(outbox, room)
    assert kept(room) == [str(n) for n in range(most)]


def test_two_that_number_at_once_number_each_row_once(outbox: Outbox, room: Topic) -> None:
    def work(writer: int) -> list[str]:
        mine: list[str] = []
        for n in range(15):
            commit(outbox, entry(room, f"{writer}/{n}"))
            mine += texts(events_of(number(outbox, room), room))
        return mine

    numbered = [text for texts in in_threads(4, work) for text in texts]
    numbered += texts(events_of(number(outbox, room), room))
    expected = {f"{writer}/{n}" for writer in range(4) for n in range(15)}
    assert sorted(numbered) == sorted(expected)
    assert sorted(kept(room)) == sorted(expected)
    for writer in range(4):
        own = [text for text in kept(room) if text.startswith(f"{writer}/")]
        assert own == [f"{writer}/{n}" for n in range(15)]


def test_nothing_is_numbered_inside_a_callers_transaction(outbox: Outbox, room: Topic) -> None:
    # A rollback would take back what was sent already, and give its offset to another event.
    with transaction.atomic(USING), pytest.raises(StoreError):
        number(outbox, room, also=[entry(room, "a")])
    assert number(outbox, room) == []
    assert kept(room) == []


def test_nothing_is_numbered_with_autocommit_off(outbox: Outbox, room: Topic) -> None:
    commit(outbox, entry(room, "a"))
    transaction.set_autocommit(False, USING)
    try:
        with pytest.raises(StoreError):
            number(outbox, room)
    finally:
        transaction.rollback(USING)
        transaction.set_autocommit(True, USING)
    assert texts(events_of(number(outbox, room), room)) == ["a"]


# -- the sweep -------------------------------------------------------------------------------------


def sweep(outbox: Outbox) -> list[Numbered]:
    return list(outbox.sweep(USING))


def test_the_sweep_numbers_what_was_left_behind(
    outbox: Outbox, room_class: type[Topic], signal: Topic
) -> None:
    rooms = [room_class(title=str(number)) for number in range(60)]
    commit(outbox, *(entry(topic, f"{topic}") for topic in (*rooms, signal)))
    batches = sweep(outbox)
    for topic in (*rooms, signal):
        assert texts(events_of(batches, topic)) == [topic.name]
    assert sweep(outbox) == []


def test_the_sweep_numbers_more_than_a_batch(outbox: Outbox, room: Topic) -> None:
    commit(outbox, *(entry(room, str(n)) for n in range(BATCH + 100)))
    assert texts(events_of(sweep(outbox), room)) == [str(n) for n in range(BATCH + 100)]


def test_rows_of_a_topic_that_another_release_may_know_are_left_for_an_hour(
    outbox: Outbox, room: Topic, time: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with registry.isolated():

        class New(Topic):
            pattern = "new/<slug:slug>"
            history = room.history

        new = New(slug="x")
        commit(outbox, entry(new, "a"), entry(room, "b"))
    time.advance(3599)
    assert {batch.topic for batch in sweep(outbox)} == {room}
    assert caplog.records == []
    with registry.isolated():
        registry.register(New)
        assert texts(events_of(sweep(outbox), new)) == ["a"]


def test_rows_of_a_topic_that_nobody_knows_are_removed_with_a_warning(
    outbox: Outbox, time: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with registry.isolated():

        class Gone(Topic):
            pattern = "gone/<slug:slug>"

        commit(outbox, *(entry(Gone(slug="x"), str(n)) for n in range(500)))
    time.advance(3601)
    with caplog.at_level(logging.WARNING, "django_live"):
        assert sweep(outbox) == []
        assert sweep(outbox) == []
    assert "gone/x" in caplog.text
    with registry.isolated():
        registry.register(Gone)
        assert sweep(outbox) == []


def test_a_commit_with_very_many_topics_is_numbered_in_parts(
    outbox: Outbox, room_class: type[Topic]
) -> None:
    rooms = [room_class(title=f"room {n}") for n in range(TOPICS_AT_ONCE + 5)]
    commit(outbox, *(entry(room, "hello") for room in rooms))
    numbered = number(outbox, *rooms, also=[entry(room, "also") for room in rooms])
    assert all(texts(events_of(numbered, room)) == ["hello", "also"] for room in rooms)


# -- bundles ---------------------------------------------------------------------------------------


def bundled(outbox: Outbox, *told: tuple[Topic, str]) -> list[int]:
    """What a caller does whose process ends right after it has committed very many events."""
    with transaction.atomic(USING):
        texts = [text for _, text in told]
        columns = Told(texts, [[topic] for topic, _ in told], [texts])
        bundles = [one for one, _ in pack(columns, "said")]
        return outbox.add_bundles(bundles, USING)


def test_a_bundle_is_numbered_by_the_sweep_once(
    outbox: Outbox, log: EventLog, room_class: type[Topic]
) -> None:
    rooms = [room_class(title=str(n)) for n in range(40)]
    bundled(outbox, *((room, f"{room} {n}") for n in range(30) for room in rooms))
    batches = sweep(outbox)
    for room in rooms:
        assert texts(events_of(batches, room)) == [f"{room} {n}" for n in range(30)]
        events = log.read(room, 0, limit=PLENTY, max_bytes=PLENTY).events
        assert [event.offset for event in events] == list(range(1, 31))
    assert sweep(outbox) == []
    assert not outbox.waits(USING)


def test_a_bundle_keeps_the_order_of_the_rows(
    outbox: Outbox, room: Topic, room_class: type[Topic]
) -> None:
    other = room_class(title="kitchen")
    commit(outbox, entry(room, "before"))
    bundled(outbox, (room, "in"), (other, "in"))
    commit(outbox, entry(room, "after"))
    # The caller of the last one does not number it out of order, and does not wait.
    assert texts(events_of(number(outbox, room), room)) == ["before"]
    assert number(outbox, room, also=[entry(room, "also")]) == []
    assert texts(events_of(sweep(outbox), room)) == ["in", "after", "also"]
    assert kept(room) == ["before", "in", "after", "also"]
    assert kept(other) == ["in"]


def test_without_that_rule_later_rows_would_overtake(
    outbox: Outbox, room: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    bundled(outbox, (room, "in"))
    commit(outbox, entry(room, "after"))
    monkeypatch.setattr("django_live.stores.pending.bundle_key", lambda pattern: "*none")
    number(outbox, room)
    monkeypatch.undo()
    sweep(outbox)
    assert kept(room) == ["after", "in"]


def test_topics_of_other_classes_do_not_wait_for_a_bundle(
    outbox: Outbox, room: Topic, signal: Topic
) -> None:
    bundled(outbox, (room, "in"))
    commit(outbox, entry(signal, "now"))
    assert texts(events_of(number(outbox, signal), signal)) == ["now"]


def test_bundles_of_a_class_are_numbered_in_their_order(outbox: Outbox, room: Topic) -> None:
    for n in range(5):
        bundled(outbox, *((room, f"{n}/{m}") for m in range(3)))
    assert texts(events_of(sweep(outbox), room)) == [f"{n}/{m}" for n in range(5) for m in range(3)]


def test_a_bundle_that_is_rolled_back_is_gone(outbox: Outbox, room: Topic) -> None:
    with transaction.atomic(USING):
        ids = bundled(outbox, (room, "in"))
        assert [e.draft.data for e in outbox.opened(ids, USING)[ids[0]]] == ['"in"']
        transaction.set_rollback(True, USING)
    assert outbox.opened(ids, USING) == {}
    assert sweep(outbox) == []


def test_more_older_rows_than_a_batch_come_before_a_bundle(
    outbox: Outbox, room_class: type[Topic]
) -> None:
    room_class.history = History(events=10_000)
    room = room_class(title="lobby")
    commit(outbox, *(entry(room, str(n)) for n in range(BATCH + 100)))
    bundled(outbox, (room, "in"))
    assert texts(events_of(sweep(outbox), room))[-2:] == [str(BATCH + 99), "in"]


def test_two_that_sweep_at_once_number_each_bundle_once(
    outbox: Outbox, room_class: type[Topic]
) -> None:
    rooms = [room_class(title=str(n)) for n in range(5)]
    for n in range(6):
        bundled(outbox, *((room, f"{n}/{m}") for m in range(20) for room in rooms))

    def work(_: int) -> list[Numbered]:
        found: list[Numbered] = []
        for _ in range(10):
            found += sweep(outbox)
        return found

    numbered = [batch for batches in in_threads(3, work) for batch in batches]
    numbered += sweep(outbox)
    for room in rooms:
        expected = [f"{n}/{m}" for n in range(6) for m in range(20)]
        assert kept(room) == expected
        assert sorted(texts(events_of(numbered, room))) == sorted(expected)


def test_a_part_that_makes_no_topic_costs_its_own_events(
    outbox: Outbox, room: Topic, room_class: type[Topic], caplog: pytest.LogCaptureFixture
) -> None:
    bundled(outbox, (room_class(title=" not a name "), "lost"), (room, "kept"))
    assert texts(events_of(sweep(outbox), room)) == ["kept"]
    assert "not a name" in caplog.text


def test_bundles_of_a_class_that_another_release_may_know_are_left_for_an_hour(
    outbox: Outbox, room: Topic, time: FakeClock
) -> None:
    with registry.isolated():

        class New(Topic):
            pattern = "new/<slug:slug>"
            history = room.history

        bundled(outbox, (New(slug="x"), "a"), (room, "b"))
    time.advance(3599)
    assert {batch.topic for batch in sweep(outbox)} == {room}
    with registry.isolated():
        registry.register(New)
        assert texts(events_of(sweep(outbox), New(slug="x"))) == ["a"]


def test_a_bundle_of_a_later_version_is_left_alone(
    outbox: Outbox, room: Topic, caplog: pytest.LogCaptureFixture, time: FakeClock
) -> None:
    commit(outbox, entry(room, "before"))
    with transaction.atomic(USING):
        later = Bundle(bundle_key(type(room).pattern), '{"v": 2}')
        outbox.add_bundles([later], USING)
    time.advance(7200)
    assert texts(events_of(sweep(outbox), room)) == ["before"]
    assert "version 2" in caplog.text
    assert outbox.waits(USING)
