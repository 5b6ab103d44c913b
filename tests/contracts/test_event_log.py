"""The contract of the log: `django_live.core.log.EventLog`, sentence by sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from django_live.core.events import Draft, Event, Position, encode_data
from django_live.core.log import EventLog, Head
from django_live.core.topics import History, Topic
from django_live.exceptions import InvalidEvent
from tests.contracts.conftest import FakeClock, in_threads

PLENTY = 10_000_000


def drafts(*texts: str) -> list[Draft]:
    return [Draft(type="said", data=encode_data(text)) for text in texts]


def numbered(count: int) -> list[Draft]:
    return drafts(*(str(number) for number in range(1, count + 1)))


def offsets(events: Iterable[Event]) -> list[int]:
    return [event.offset for event in events]


def texts(events: Iterable[Event]) -> list[str]:
    return [json.loads(event.data) for event in events]


def all_of(log: EventLog, topic: Topic, after: int = 0) -> list[Event]:
    return log.read(topic, after, limit=PLENTY, max_bytes=PLENTY).events


# -- numbering -------------------------------------------------------------------------------------


def test_offsets_begin_at_one_and_have_no_holes(log: EventLog, room: Topic) -> None:
    assert offsets(log.append(room, drafts("a", "b")).events) == [1, 2]
    assert offsets(log.append(room, drafts("c")).events) == [3]
    assert offsets(all_of(log, room)) == [1, 2, 3]


def test_an_append_is_of_the_epoch_that_the_head_tells(log: EventLog, room: Topic) -> None:
    appended = log.append(room, drafts("a"))
    assert log.heads([room])[room.key] == Head(appended.epoch, last=1, floor=0)


def test_what_is_read_is_what_was_appended(log: EventLog, room: Topic) -> None:
    draft = Draft(type="order.paid", data='{"pk":42}', exclude="c1f09a")
    (appended,) = log.append(room, [draft]).events
    (read,) = all_of(log, room)
    assert read == appended
    assert (read.type, read.data, read.exclude) == ("order.paid", '{"pk":42}', "c1f09a")


def test_appending_nothing_changes_nothing(log: EventLog, room: Topic) -> None:
    log.append(room, drafts("a"))
    assert log.append(room, []).events == []
    assert log.heads([room])[room.key].last == 1


def test_topics_are_numbered_apart(log: EventLog, room: Topic, room_class: type[Topic]) -> None:
    other = room_class(title="kitchen")
    log.append(room, drafts("a", "b"))
    assert offsets(log.append(other, drafts("c")).events) == [1]
    assert texts(all_of(log, other)) == ["c"]


def test_namespaces_are_apart(log: EventLog, room: Topic, room_class: type[Topic]) -> None:
    theirs = room_class(title="lobby", namespace="acme")
    log.append(room, drafts("ours"))
    log.append(theirs, drafts("theirs"))
    assert texts(all_of(log, room)) == ["ours"]
    assert texts(all_of(log, theirs)) == ["theirs"]


def test_names_that_a_collation_takes_for_one_are_apart(
    log: EventLog, room_class: type[Topic]
) -> None:
    names = [
        "Room",
        "room",
        "Röom",
        "ROOM",
        "røøm",
        "straße",
        "strasse",
    ]
    topics = [room_class(title=name) for name in names]
    for topic in topics:
        log.append(topic, drafts(topic.name))
    assert [texts(all_of(log, topic)) for topic in topics] == [[topic.name] for topic in topics]


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "\u2028 and \u2029",
        "\U0001f9e1 emoji, \U0001f468\u200d\U0001f469\u200d\U0001f467 joined",
        "lines\r\nand\ttabs",
        "quotes \" ' and \\ backslashes",
        "\u200f right to left",
        "\ufffe\uffff noncharacters",
        "%s %(name)s {} $1 ?",
        "x" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_any_text_comes_back_as_it_was(log: EventLog, room: Topic, text: str) -> None:
    log.append(room, drafts(text))
    assert texts(all_of(log, room)) == [text]


def test_a_lone_surrogate_is_refused_before_it_reaches_a_log() -> None:
    with pytest.raises(InvalidEvent):
        encode_data("\ud800")
    with pytest.raises(InvalidEvent):
        encode_data({"\udfff": 1})


def test_the_time_of_an_event_is_the_same_number_everywhere(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    time.now = 1_795_194_899.140267
    (appended,) = log.append(room, drafts("a")).events
    (read,) = all_of(log, room)
    assert appended.created == read.created == 1_795_194_899.140267


def test_time_never_goes_back(log: EventLog, room: Topic, time: FakeClock) -> None:
    (first,) = log.append(room, drafts("a")).events
    time.advance(-60)
    (second,) = log.append(room, drafts("b")).events
    assert second.created == first.created


def test_many_writers_at_once_leave_no_hole(log: EventLog, room: Topic) -> None:
    in_threads(
        6,
        lambda writer: [log.append(room, drafts(f"{writer}/{number}")) for number in range(20)],
    )
    events = all_of(log, room)
    assert offsets(events) == list(range(1, 121))
    for writer in range(6):
        own = [text for text in texts(events) if text.startswith(f"{writer}/")]
        assert own == [f"{writer}/{number}" for number in range(20)]


def test_a_reader_never_sees_an_event_before_an_earlier_one(log: EventLog, room: Topic) -> None:
    writers_left = threading.Semaphore(0)
    seen: list[int] = []

    def work(number: int) -> None:
        if number:
            for batch in range(15):
                log.append(room, numbered(1 + batch % 3))
            writers_left.release()
            return
        finished = 0
        while finished < 3:
            finished += writers_left.acquire(blocking=False)
            after = seen[-1] if seen else 0
            seen.extend(offsets(log.read(room, after, limit=7, max_bytes=PLENTY).events))
        while page := log.read(room, seen[-1], limit=7, max_bytes=PLENTY).events:
            seen.extend(offsets(page))

    in_threads(4, work)
    assert seen == list(range(1, 3 * 30 + 1))


# -- idempotency keys ------------------------------------------------------------------------------


def keyed(key: str, text: str = "x") -> Draft:
    return Draft(type="said", data=encode_data(text), idempotency_key=key)


def test_a_second_append_with_the_same_key_is_the_first_one(log: EventLog, room: Topic) -> None:
    first = log.append(room, [keyed("k", "first")])
    second = log.append(room, [keyed("k", "second")])
    assert second == first
    assert texts(all_of(log, room)) == ["first"]


def test_known_and_new_drafts_may_come_together(log: EventLog, room: Topic) -> None:
    log.append(room, [keyed("k1"), *drafts("between")])
    again = log.append(room, [keyed("k2"), keyed("k1"), *drafts("new")])
    assert offsets(again.events) == [3, 1, 4]
    assert offsets(all_of(log, room)) == [1, 2, 3, 4]


def test_a_key_counts_once_within_one_append(log: EventLog, room: Topic) -> None:
    assert offsets(log.append(room, [keyed("k"), keyed("k")]).events) == [1, 1]
    assert offsets(all_of(log, room)) == [1]


def test_each_topic_has_keys_of_its_own(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    log.append(room, [keyed("k", "here")])
    log.append(room_class(title="kitchen"), [keyed("k", "there")])
    assert texts(all_of(log, room_class(title="kitchen"))) == ["there"]


def test_keys_are_told_apart_whatever_they_are_made_of(log: EventLog, room: Topic) -> None:
    keys = ["key", "Key", "kéy", "key\0", "k" * 5000, "k" * 5001, "0", "\U0001f511"]
    log.append(room, [keyed(key, key) for key in keys])
    log.append(room, [keyed(key, "again") for key in keys])
    assert texts(all_of(log, room)) == keys


def test_of_two_that_append_a_key_at_once_one_is_first(log: EventLog, room: Topic) -> None:
    answers = in_threads(4, lambda number: log.append(room, [keyed("k", str(number))]))
    assert len({answer.events[0] for answer in answers}) == 1
    assert offsets(all_of(log, room)) == [1]


def test_a_new_epoch_knows_no_keys(log: EventLog, room: Topic) -> None:
    log.append(room, [keyed("k", "before")])
    log.begin_epoch(room, log.heads([room])[room.key])
    log.append(room, [keyed("k", "after")])
    assert texts(all_of(log, room, after=1)) == ["after"]


# -- reading ---------------------------------------------------------------------------------------


def test_a_page_has_the_first_events_after_an_offset(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(10))
    page = log.read(room, 4, limit=3, max_bytes=PLENTY)
    assert offsets(page.events) == [5, 6, 7]
    assert (page.head.last, page.head.floor) == (10, 0)


@pytest.mark.parametrize("limit", [1, 7, 99, 100, 1000])
def test_pages_put_together_are_the_log(log: EventLog, room: Topic, limit: int) -> None:
    log.append(room, numbered(100))
    seen: list[int] = []
    while page := log.read(room, seen[-1] if seen else 0, limit, max_bytes=PLENTY).events:
        assert len(page) <= limit
        seen.extend(offsets(page))
    assert seen == list(range(1, 101))


def test_after_the_last_event_there_is_nothing(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(3))
    assert log.read(room, 3, limit=10, max_bytes=PLENTY).events == []
    ahead = log.read(room, 8, limit=10, max_bytes=PLENTY)
    assert (ahead.head.last, ahead.events) == (3, [])


def test_a_page_stops_before_it_has_too_many_bytes(log: EventLog, room: Topic) -> None:
    log.append(room, drafts(*["x" * 98] * 50))  # 100 bytes each, with the quotes
    assert len(log.read(room, 0, limit=50, max_bytes=1000).events) == 10
    assert len(log.read(room, 0, limit=50, max_bytes=1099).events) == 10
    assert len(log.read(room, 0, limit=50, max_bytes=4000).events) == 40
    assert len(log.read(room, 0, limit=5, max_bytes=1000).events) == 5


def test_bytes_are_those_of_utf_8(log: EventLog, room: Topic) -> None:
    log.append(room, drafts(*["é" * 49] * 3))
    assert len(log.read(room, 0, limit=10, max_bytes=200).events) == 2


def test_an_event_larger_than_a_page_comes_alone(log: EventLog, room: Topic) -> None:
    log.append(room, drafts("small", "x" * 10_000, "small"))
    sizes = [offsets(log.read(room, after, limit=10, max_bytes=1000).events) for after in (0, 1, 2)]
    assert sizes == [[1], [2], [3]]


def test_small_events_before_large_ones_do_not_mislead(log: EventLog, room: Topic) -> None:
    log.append(room, drafts(*["x"] * 40, *["x" * 998] * 40))
    assert len(log.read(room, 0, limit=80, max_bytes=10_120).events) == 50


# -- heads and epochs ------------------------------------------------------------------------------


def test_a_topic_that_was_never_written_to_has_a_head(log: EventLog, room: Topic) -> None:
    head = log.heads([room])[room.key]
    assert head.epoch
    assert (head.last, head.floor) == (0, 0)
    assert log.heads([room])[room.key] == head
    assert log.read(room, 0, limit=10, max_bytes=PLENTY) == (head, [])


def test_nothing_yet_is_a_position_to_resume_from(log: EventLog, room: Topic) -> None:
    nothing = log.heads([room])[room.key].position
    assert log.append(room, drafts("a")).epoch == nothing.epoch
    assert texts(all_of(log, room, after=nothing.offset)) == ["a"]


def test_heads_of_many_topics_come_together(log: EventLog, room_class: type[Topic]) -> None:
    topics = [room_class(title=str(number)) for number in range(60)]
    for number, topic in enumerate(topics[:20]):
        log.append(topic, numbered(number + 1))
    heads = log.heads(topics)
    assert [heads[topic.key].last for topic in topics] == [*range(1, 21), *[0] * 40]
    assert log.heads([]) == {}


def test_after_a_flush_every_epoch_is_another(
    log: EventLog, room: Topic, room_class: type[Topic], flush: Callable[[], EventLog]
) -> None:
    unborn = room_class(title="unborn")
    log.append(room, drafts("a"))
    before = log.heads([room, unborn])
    log = flush()
    after = log.heads([room, unborn])
    assert after[room.key].last == 0
    assert {head.epoch for head in before.values()}.isdisjoint(
        {head.epoch for head in after.values()}
    )
    assert log.append(room, drafts("b")).epoch not in {head.epoch for head in before.values()}


def test_epochs_are_short_and_made_for_cursors(log: EventLog, room: Topic) -> None:
    head = log.heads([room])[room.key]
    other = log.begin_epoch(room, head)
    for epoch in (head.epoch, other.epoch):
        assert len(epoch) == 8
        assert epoch.isascii()
        assert epoch.isalnum()


def test_a_new_epoch_goes_on_after_what_was_there(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(3))
    before = log.heads([room])[room.key]
    after = log.begin_epoch(room, before)
    assert after.epoch != before.epoch
    assert (after.last, after.floor) == (3, 3)
    assert log.heads([room])[room.key] == after
    assert all_of(log, room) == []
    appended = log.append(room, drafts("d"))
    assert (appended.epoch, offsets(appended.events)) == (after.epoch, [4])
    assert texts(all_of(log, room, after=3)) == ["d"]


def test_a_new_epoch_goes_on_after_what_was_seen(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(3))
    seen = log.heads([room])[room.key]._replace(last=9)
    assert log.begin_epoch(room, seen).last == 9
    assert offsets(log.append(room, drafts("x")).events) == [10]


def test_a_topic_without_events_can_begin_an_epoch(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    other = room_class(title="kitchen")
    unborn = log.heads([room, other])
    after = log.begin_epoch(room, unborn[room.key])
    assert after.epoch != unborn[room.key].epoch
    assert log.heads([room, other]) == {room.key: after, other.key: unborn[other.key]}


def test_an_epoch_that_somebody_else_ended_is_left_alone(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(3))
    seen = log.heads([room])[room.key]
    first = log.begin_epoch(room, seen)
    log.append(room, drafts("new life"))
    assert log.begin_epoch(room, seen) == first._replace(last=4)
    assert texts(all_of(log, room, after=3)) == ["new life"]


def test_of_two_that_begin_an_epoch_at_once_one_wins(log: EventLog, room: Topic) -> None:
    log.append(room, numbered(3))
    seen = log.heads([room])[room.key]
    answers = in_threads(4, lambda _: log.begin_epoch(room, seen))
    assert len(set(answers)) == 1
    assert answers[0].epoch != seen.epoch


# -- positions at a time ---------------------------------------------------------------------------


def test_a_position_covers_what_was_numbered_until_then(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    moments = []
    for _ in range(5):
        log.append(room, numbered(2))
        moments.append(time())
        time.advance(1)
    epoch = log.heads([room])[room.key].epoch

    def at(moment: float) -> Position:
        return log.positions([room], moment)[room.key]

    assert at(moments[0] - 0.000_001) == Position(epoch, 0)
    assert [at(moment) for moment in moments] == [Position(epoch, n) for n in (2, 4, 6, 8, 10)]
    assert at(moments[2] + 0.5) == Position(epoch, 6)
    assert at(moments[-1] + 1000) == Position(epoch, 10)


def test_events_of_one_instant_are_covered_together(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    log.append(room, numbered(3))
    log.append(room, numbered(3))
    assert log.positions([room], time())[room.key].offset == 6
    assert log.positions([room], time() - 0.000_001)[room.key].offset == 0


def test_a_topic_without_events_has_a_position_at_any_time(log: EventLog, room: Topic) -> None:
    head = log.heads([room])[room.key]
    assert log.positions([room], 0.0)[room.key] == head.position


def test_positions_of_many_topics_come_together(
    log: EventLog, room_class: type[Topic], time: FakeClock
) -> None:
    topics = [room_class(title=str(number)) for number in range(10)]
    for topic in topics[:6]:
        log.append(topic, numbered(1))
    now = time()
    time.advance(1)
    for topic in topics[3:8]:
        log.append(topic, numbered(1))
    positions = log.positions(topics, now)
    assert [positions[topic.key].offset for topic in topics] == [1] * 6 + [0] * 4


def test_a_position_never_covers_trimmed_events_that_came_later(
    log: EventLog, room: Topic, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = History(events=2)
    log.append(room, numbered(1))
    page_was_read = time()
    time.advance(1)
    log.append(room, numbered(9))
    log.trim()
    position = log.positions([room], page_was_read)[room.key]
    assert position.offset <= 1
    assert log.heads([room])[room.key].floor == 8


def test_where_all_was_trimmed_before_the_position_is_the_floor(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    log.append(room, numbered(5))
    time.advance(timedelta(days=2).total_seconds())
    log.trim()
    page_was_read = time()
    time.advance(1)
    log.append(room, drafts("since"))
    position = log.positions([room], page_was_read)[room.key]
    assert position.offset == 5
    assert texts(all_of(log, room, after=position.offset)) == ["since"]


def test_a_position_in_a_new_epoch_covers_nothing_that_came_later(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    page_was_read = time()
    time.advance(1)
    log.append(room, numbered(3))
    head = log.begin_epoch(room, log.heads([room])[room.key])
    assert log.positions([room], page_was_read)[room.key] == Position(head.epoch, 0)
    assert log.positions([room], time())[room.key] == Position(head.epoch, 3)


# -- trimming --------------------------------------------------------------------------------------


def test_no_more_events_are_kept_than_the_history_says(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=10)
    log.append(room, numbered(35))
    log.trim()
    assert log.heads([room])[room.key][1:] == (35, 25)
    assert offsets(all_of(log, room)) == list(range(26, 36))
    assert offsets(log.append(room, drafts("next")).events) == [36]


def test_no_event_is_kept_longer_than_the_history_says(
    log: EventLog, room: Topic, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = History(events=1000, age=timedelta(hours=1))
    log.append(room, numbered(3))
    time.advance(1800)
    log.append(room, numbered(2))
    time.advance(1800)
    assert log.trim() == 0
    time.advance(1)
    assert log.trim() == 3
    assert log.heads([room])[room.key][1:] == (5, 3)
    assert offsets(all_of(log, room)) == [4, 5]


def test_a_topic_whose_events_are_all_gone_goes_on(
    log: EventLog, room: Topic, time: FakeClock
) -> None:
    epoch = log.append(room, numbered(3)).epoch
    time.advance(timedelta(days=2).total_seconds())
    assert log.trim() == 3
    assert log.heads([room])[room.key] == Head(epoch, last=3, floor=3)
    assert log.trim() == 0
    appended = log.append(room, drafts("next"))
    assert (appended.epoch, offsets(appended.events)) == (epoch, [4])


def test_a_reader_behind_the_floor_gets_what_is_left(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=4)
    log.append(room, numbered(10))
    log.trim()
    page = log.read(room, 2, limit=2, max_bytes=PLENTY)
    assert page.head.floor == 6
    assert offsets(page.events) == [7, 8]


def test_trimming_in_small_steps_removes_the_same(
    log: EventLog, room: Topic, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = History(events=10)
    for _ in range(4):
        log.append(room, numbered(8))
        time.advance(1)
    log.trim(limit=3)
    assert offsets(all_of(log, room)) == list(range(23, 33))


def test_each_topic_is_trimmed_by_its_own_history(log: EventLog, room: Topic) -> None:
    class Ticker(Topic):
        pattern = "tickers/<str:title>"
        history = History(events=3)

    ticker = Ticker(title="lobby")
    for topic in (room, ticker):
        log.append(topic, numbered(10))
    log.trim()
    assert len(all_of(log, room)) == 10
    assert len(all_of(log, ticker)) == 3


def test_a_new_epoch_is_trimmed_like_any_other(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=4)
    log.append(room, numbered(3))
    log.begin_epoch(room, log.heads([room])[room.key])
    log.append(room, numbered(6))
    log.trim()
    assert log.heads([room])[room.key].floor == 5
    assert offsets(all_of(log, room)) == [6, 7, 8, 9]


def test_readers_and_writers_do_not_notice_a_trim(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=5)
    log.append(room, numbered(20))
    written = threading.Event()
    faults: list[str] = []

    def work(number: int) -> None:
        if number == 0:
            for _ in range(20):
                log.append(room, numbered(7))
            written.set()
        elif number == 1:
            while not written.is_set():
                log.trim(limit=4)
        else:
            while not written.is_set():
                page = log.read(room, 0, limit=50, max_bytes=PLENTY)
                found = offsets(page.events)
                expected = range(page.head.floor + 1, page.head.floor + 1 + len(found))
                if found != list(expected) or len(found) < min(
                    50, page.head.last - page.head.floor
                ):
                    faults.append(f"{page.head}: {found}")

    in_threads(3, work)
    log.trim()
    assert faults == []
    assert offsets(all_of(log, room)) == list(range(156, 161))


# -- forgetting ------------------------------------------------------------------------------------


def test_names_are_those_of_topics_with_events(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    assert list(log.names()) == []
    there = room_class(title="Lobby", namespace="acme")
    for topic in (room, there):
        log.append(topic, [Draft("said", "1")])
    log.heads([room_class(title="empty")])
    assert sorted(log.names()) == [("", "rooms/lobby"), ("acme", "rooms/Lobby")]


def test_other_data_takes_the_place_and_nothing_else_changes(
    log: EventLog, room: Topic, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = History(events=5000)
    for batch in range(12):
        time.advance(0.1)
        log.append(room, [Draft("said", f'"{n}"', exclude=f"c{batch}") for n in range(100)])
    before = log.read(room, 0, 2000, PLENTY)
    assert log.replace(room, {1: "null", 700: '"\\u0000 ü"', 1200: "{}", 5000: "1"}) == 3
    after = log.read(room, 0, 2000, PLENTY)
    assert after.head == before.head
    assert len(after.events) == 1200
    for old, new in zip(before.events, after.events, strict=True):
        data = {1: "null", 700: '"\\u0000 ü"', 1200: "{}"}.get(old.offset, old.data)
        assert new == replace(old, data=data)
    assert log.positions([room], time() - 0.55)[room.key] == Position(before.head.epoch, 600)
    assert log.append(room, [Draft("said", "1")]).events[0].offset == 1201


def test_what_was_replaced_is_known_by_its_key_as_it_is_now(log: EventLog, room: Topic) -> None:
    log.append(room, [Draft("said", '"ada"', idempotency_key="k")])
    log.replace(room, {1: "null"})
    (event,) = log.append(room, [Draft("said", '"ada"', idempotency_key="k")]).events
    assert (event.offset, event.data) == (1, "null")


def test_in_a_topic_that_nobody_wrote_to_nothing_is_replaced(log: EventLog, room: Topic) -> None:
    assert log.replace(room, {1: "null"}) == 0
    assert log.heads([room])[room.key].last == 0


def test_readers_and_writers_do_not_notice_that_data_is_replaced(
    log: EventLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=5000)
    log.append(room, [Draft("said", "0")] * 200)
    ended = threading.Event()

    def work(number: int) -> list[int]:
        if number == 0:
            try:
                for offset in range(1, 40):
                    log.replace(room, {offset: "null", offset + 100: "null"})
            finally:
                ended.set()
        elif number == 1:
            for _ in range(3000):
                if ended.is_set():
                    break
                log.append(room, [Draft("said", "0")])
        else:
            while not ended.is_set():
                page = log.read(room, 0, 5000, PLENTY)
                offsets = [event.offset for event in page.events]
                assert page.head.floor == 0
                assert offsets == list(range(1, len(offsets) + 1))
                assert len(offsets) >= 200
        return []

    in_threads(3, work)
    last = log.heads([room])[room.key].last
    assert offsets(all_of(log, room)) == list(range(1, last + 1))


def test_several_topics_are_appended_to_at_once(log: EventLog, room_class: type[Topic]) -> None:
    rooms = [room_class(title=str(n)) for n in range(250)]
    batches = [(room, drafts(f"{room} 0", f"{room} 1")) for room in rooms]
    for times in (1, 2):
        appended = log.append_many(batches)
        assert [[event.offset for event in one.events] for one in appended] == [
            [2 * times - 1, 2 * times]
        ] * len(rooms)
    for room in rooms[::50]:
        page = log.read(room, 0, limit=10, max_bytes=10_000)
        assert [event.data for event in page.events] == [d.data for d in dict(batches)[room]] * 2
    assert log.append_many([]) == []


def test_a_topic_may_be_appended_to_twice_at_once(log: EventLog, room: Topic) -> None:
    first, second = log.append_many([(room, drafts("a")), (room, drafts("b"))])
    assert [one.events[0].offset for one in (first, second)] == [1, 2]
