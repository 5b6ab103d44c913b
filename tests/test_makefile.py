"""What `make demo` installs: everything that the pages of the example use."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.docs.markdown import ROOT

USED = {
    "daphne": "the server",
    "psutil": "the dashboard's machine",
    "prometheus-client": "the dashboard's other program",
    "markdown-it-py": "the assistant's answers",
    "nh3": "the assistant's answers",
}


@pytest.mark.parametrize("stamp", ["DEMO_READY", "CLUSTER_READY"])
def test_the_demo_has_what_its_pages_use(stamp: str) -> None:
    rule = re.search(
        rf"^\$\({stamp}\):.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert rule is not None
    extras = re.search(r"--editable '\.\[([a-z,]+)\]'", rule[1])
    assert extras is not None
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    installed = {
        re.split(r"[<>=\[]", requirement)[0]
        for name in extras[1].split(",")
        for requirement in offered[name]
    }
    assert set(USED) <= installed, {name: USED[name] for name in set(USED) - installed}
