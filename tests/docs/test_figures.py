"""The figures of docs/concepts/performance.md are those of benchmarks/results.json."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest

from tests.docs.markdown import ROOT

PAGE = (ROOT / "docs/concepts/performance.md").read_text()


def load_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks/tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()
KEPT: dict[str, Any] = json.loads((ROOT / "benchmarks/results.json").read_text())
RESULTS: dict[str, Any] = {**KEPT["results"], "versions": KEPT["versions"]}


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_page_has_the_table_of_the_results(name: str) -> None:
    assert f"<!-- figures: {name} -->\n{tables.TABLES[name](RESULTS)}\n<!-- end -->" in PAGE, (
        "Run `python benchmarks/summary.py`: it writes the page's tables."
    )


def test_another_figure_makes_another_page() -> None:
    changed = json.loads(json.dumps(RESULTS))
    changed["fanout"]["rows"][0]["µs"] += 1
    assert tables.with_tables(PAGE, RESULTS) == PAGE
    assert tables.with_tables(PAGE, changed) != PAGE


def test_no_row_of_ours_lost_an_event() -> None:
    for name in ("fanout", "growth", "storm"):
        for row in RESULTS[name]["rows"]:
            if row.get("subject", "live").startswith(("live", "bare")):
                assert row["result"] == "every event once, in order", row


def test_a_goal_that_is_missed_is_named() -> None:
    missed = {"rows": [{"subject": "live uvicorn SSE", "µs of bare": 0.86}]}
    assert "| 0.86 | **no** |" in tables.goals({"fanout": missed})
    missed["rows"][0]["µs of bare"] = 0.85
    assert "| 0.85 | yes |" in tables.goals({"fanout": missed})
    assert "| 0.85 | yes |" not in tables.goals({})


def test_who_lost_events_is_no_yardstick() -> None:
    name = "Channels consumer, redis layer, uvicorn WebSocket"
    lost = {"subject": name, "live's part": 0.06, "result": "FAILED (missing: 12)"}
    (line,) = [
        line for line in tables.goals({"fanout": {"rows": [lost]}}).splitlines() if "0.06" in line
    ]
    assert line.endswith("| 0.06, but its row FAILED |  |")
