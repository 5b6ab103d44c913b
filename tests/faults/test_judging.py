"""The judge of the fault runs, judged: what a reset excuses, and what nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.faults.clients import Client, Item
from tests.faults.judging import Journal, Report, judge

TOPIC = "open/two"
RESET = ""


class Told:
    """A client with this story: values, and where it was reset."""

    kind, name, topics, replayed = "SSE", "0", (TOPIC,), 0

    def __init__(self, *story: str) -> None:
        self.codes: dict[str, int] = {}
        self.items = [
            Item(TOPIC, one) if one != RESET else Item(TOPIC, reset="epoch") for one in story
        ]


def value(text: str) -> str:
    """Of the first writer, where none is named."""
    return text if ":" in text else f"1.1:{text}"


def report_of(journal: str, *stories: Sequence[str]) -> Report:
    """The judgement of these clients' stories. The journal: `c` or `a` and a number, line by line."""
    read = Journal()
    for line in journal.split():
        read.read(1, f"p {TOPIC} {value(line[1:])}\n{line[0]} {TOPIC} {value(line[1:])}")
    told = [Told(*(value(one) if one else RESET for one in story)) for story in stories]
    return judge(read, cast("list[Client]", told))


def lost(journal: str, *story: str) -> list[str]:
    """Which values a client with this story has lost."""
    found = report_of(journal, story).lost
    return [sentence.split(", ")[2].split(" ")[0][4:] for sentence in found]


def test_what_was_told_is_not_lost() -> None:
    assert lost("c1 c2 c3", "1", "2", "3") == []


@pytest.mark.parametrize(
    ("story", "missing"),
    [
        (("1", "3"), ["2"]),
        (("1", "2"), ["3"]),
        (("1", RESET, "3"), []),
        (("1", RESET, "2"), ["3"]),
        ((RESET, "1", "3"), ["2"]),
        (("1", "2", RESET), []),
    ],
)
def test_a_reset_excuses_what_is_missing_at_its_place(story: tuple[str, ...], missing: Any) -> None:
    assert lost("c1 c2 c3", *story) == missing


def test_events_that_are_published_again_together_are_one_each() -> None:
    """The log has acknowledged the first two of three and forgot them; all three are tried again."""
    again = "c1 c2 c3 c2 c3 c4"
    assert lost(again, "1", "2", RESET, "4") == [], "the reset tells of the third"
    assert lost(again, "1", "2", RESET) == []
    assert lost(again, "1", "2", "4") == ["3"], "nothing tells of it"
    assert lost(again, "1", "2", RESET, "2", "4") == ["3"]


def test_all_are_told_in_one_order() -> None:
    assert report_of("c1 c2 c3", ["1", "2", "3"], ["1", "2", "3"]).reordered == []
    assert report_of("c1 c2 c3", ["1", "2", "3"], ["1", "3", "2"]).reordered


def test_what_a_log_forgot_and_its_publisher_repeated_has_two_places() -> None:
    before, after = ["1", "2", RESET, "2.1:1", "3"], ["1", RESET, "2.1:1", "2", "3"]
    assert report_of("c1 c2 c2.1:1 a2 c2 c3", before, after).reordered == []
    assert report_of("c1 c2 c2.1:1 c3", before, after).reordered, "nobody has repeated it"
    same_side = ["1", RESET, "2", "2.1:1", "3"]
    assert report_of("c1 c2 c2.1:1 a2 c2 c3", same_side, after).reordered, "it has one place"
