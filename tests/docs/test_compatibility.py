"""The page on compatibility is what its script makes of the runs, and no run has failed."""

from __future__ import annotations

import json

from tests.matrix.page import PAGE, RESULTS, page
from tests.matrix.parts import PARTS
from tests.matrix.run import ROOT


def test_the_page_is_made_of_the_runs() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text())), "python -m tests.matrix.page"


def test_nothing_in_the_runs_has_failed() -> None:
    for name, run in json.loads(RESULTS.read_text()).items():
        for part, counts in run["parts"].items():
            assert counts["failed"] == 0, (name, part)
            assert counts["passed"] > 0, (name, part)


def test_each_part_is_there() -> None:
    for part in PARTS.values():
        for path in part.tests:
            assert (ROOT / path).exists(), path
