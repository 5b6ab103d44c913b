"""The judge of the fault runs, judged: what a reset excuses, and what nothing does."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.faults.clients import Client, Item
from tests.faults.judging import Journal, judge

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


def lost(journal: str, *story: str) -> list[str]:
    """Which values of this journal the client has lost. `c` and numbers, in the order of its lines."""
    read = Journal()
    for line in journal.split():
        read.read(1, f"{'p' if line[0] == 'p' else 'c'} {TOPIC} 1.1:{line[1:]}")
        read.possible.add(f"1.1:{line[1:]}")
    client = cast("Client", Told(*(f"1.1:{one}" if one else RESET for one in story)))
    return [sentence.split(", ")[2].split(" ")[0][4:] for sentence in judge(read, [client]).lost]


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
