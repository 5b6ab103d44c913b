"""Many processes publish, fail and die; a reader polls all the while. Nothing may be lost, doubled,
invented, out of order or missing in between.

Each promise has a control: the same run without one part of the mechanism, which has to fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checking import Findings, examine
from tests.conftest import NewDatabase
from tests.support import prepared
from tests.support.databases import ServerDatabase
from tests.support.servers import PROJECT_ROOT

pytestmark = pytest.mark.timeout(120)

PUBLISHERS = 4


def start(
    database: ServerDatabase, role: str, *, module: str = "tests.chaos.workers", **arguments: Any
) -> subprocess.Popen[str]:
    return prepared.Popen(
        [sys.executable, "-m", module, role, json.dumps(arguments)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **database.env},
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, f"{process.args!r} ended badly"
    return output


@dataclass
class Seen:
    """What the readers saw and what was committed, once a run is over."""

    result: Path

    def findings(self) -> dict[str, Findings]:
        """By reader and topic, where something is wrong."""
        data = json.loads(self.result.read_text())
        assert data["journal"], "nothing was committed: this run proves nothing"
        wrong: dict[str, Findings] = {}
        for reader in ("live", "late"):
            for topic, seen in data[reader].items():
                found = examine(
                    [(offset, value) for offset, value in seen],
                    self._values(data["journal"], topic, "certain"),
                    self._values(data["journal"], topic, "possible"),
                )
                if found.kinds:
                    wrong[f"{reader} {topic}"] = found
        return wrong

    def kinds(self) -> set[str]:
        return {kind for found in self.findings().values() for kind in found.kinds}

    def count(self) -> int:
        """Events that were seen."""
        return sum(len(seen) for seen in json.loads(self.result.read_text())["live"].values())

    @staticmethod
    def _values(journal: list[tuple[str, str, str]], topic: str, state: str) -> set[str]:
        return {value for where, value, how in journal if (where, how) == (topic, state)}


@contextmanager
def reading(database: ServerDatabase, folder: Path) -> Iterator[Seen]:
    """A reader polls while the block runs, and until it has read all."""
    stop, result = folder / "stop", folder / "result.json"
    finish(start(database, "create_tables"))
    reader = start(database, "read_until", stop=str(stop), result=str(result))
    try:
        yield Seen(result)
        stop.touch()
        finish(reader)
    finally:
        reader.kill()
        reader.communicate()


def run(
    database: ServerDatabase,
    folder: Path,
    mechanism: str = "outbox",
    transactions: int = 40,
    deaths: int = 4,
) -> tuple[Seen, Counter[str]]:
    """Let them publish, and die; what was seen, and how many faults there were."""
    faults: Counter[str] = Counter()
    with reading(database, folder) as seen:
        publishers = [
            start(
                database,
                "publish_with_deaths",
                slot=slot,
                transactions=transactions,
                deaths=deaths,
                mechanism=mechanism,
            )
            for slot in range(PUBLISHERS)
        ]
        for publisher in publishers:
            faults.update(json.loads(finish(publisher).splitlines()[-1]))
    return seen, faults


def test_whatever_happens_each_committed_event_is_seen_once_in_order(
    any_database: ServerDatabase, tmp_path: Path
) -> None:
    seen, faults = run(any_database, tmp_path)
    assert seen.findings() == {}
    assert seen.count() > PUBLISHERS * 40
    # Without faults this would prove nothing.
    assert faults["killed"] >= PUBLISHERS * 2
    assert faults["rollback"] >= 3
    assert faults["savepoint"] >= 10


@pytest.mark.parametrize(
    ("mechanism", "kind"),
    [("no-outbox", "lost"), ("before-commit", "ghosts"), ("delete-later", "doubled")],
)
def test_without_its_parts_the_mechanism_fails(
    new_server_database: NewDatabase, tmp_path: Path, mechanism: str, kind: str
) -> None:
    """The checker and the faults are the same on each database; so one of them will do."""
    seen, _ = run(new_server_database("sqlite"), tmp_path, mechanism, transactions=20, deaths=6)
    assert kind in seen.kinds()


# `test_order.py` decides who goes on at which moment, so it meets each order every time. Here chance does.


def fight_for_a_row(
    database: ServerDatabase, folder: Path, mechanism: str, transactions: int
) -> Seen:
    with reading(database, folder) as seen:
        writers = [
            start(database, "write_one_row", transactions=transactions, mechanism=mechanism)
            for _ in range(2)
        ]
        for writer in writers:
            finish(writer)
    return seen


@pytest.mark.long
def test_two_writers_of_one_row_are_told_in_the_order_of_their_commits(
    any_database: ServerDatabase, tmp_path: Path
) -> None:
    seen = fight_for_a_row(any_database, tmp_path, "outbox", transactions=60)
    assert seen.findings() == {}
    assert seen.count() > 80


@pytest.mark.long
def test_events_that_are_numbered_by_their_own_commit_come_out_of_order(
    any_database: ServerDatabase, tmp_path: Path
) -> None:
    seen = fight_for_a_row(any_database, tmp_path, "no-outbox", transactions=60)
    assert seen.kinds() == {"reordered"}


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        ([(1, "a:1"), (2, "b:1"), (3, "a:2")], set()),
        ([(1, "a:1"), (2, "b:1"), (3, "a:2"), (4, "c:1")], set()),
        ([(1, "a:1"), (2, "a:2")], {"lost"}),
        ([(1, "a:1"), (2, "b:1"), (3, "a:2"), (4, "x:1")], {"ghosts"}),
        ([(1, "a:1"), (2, "b:1"), (3, "a:2"), (4, "b:1")], {"doubled"}),
        ([(1, "a:1"), (2, "b:1"), (4, "a:2")], {"holes"}),
        ([(2, "a:1"), (3, "b:1"), (4, "a:2")], {"holes"}),
        ([(1, "a:1"), (2, "b:1"), (2, "a:2")], {"holes"}),
        ([(1, "a:2"), (2, "b:1"), (3, "a:1")], {"reordered"}),
    ],
)
def test_the_checker_finds_every_kind_of_fault(
    seen: list[tuple[int, str]], kinds: set[str]
) -> None:
    assert examine(seen, certain={"a:1", "a:2", "b:1"}, possible={"c:1"}).kinds == kinds
