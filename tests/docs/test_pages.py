"""Links lead somewhere, and the pages can be built."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages

SOURCES = [*pages(), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", sorted(set(SOURCES)), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_reached_from_the_readme(page: Path) -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md", ROOT / "docs/index.md"]
    while waiting:
        one = waiting.pop()
        if one in seen or one.suffix != ".md" or not one.is_file():
            continue
        seen.add(one)
        waiting += [(one.parent / link.partition("#")[0]).resolve() for link in links(one)]
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", one.read_text(), re.DOTALL):
            entries = [line for line in tree.split("\n") if line and not line.startswith(":")]
            waiting += [(one.parent / f"{entry}.md").resolve() for entry in entries]
    assert page in seen


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="sphinx is not installed")
@pytest.mark.timeout(120)
def test_sphinx_has_nothing_to_complain_about(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    folders = [ROOT / "docs", tmp_path / "html", "-d", tmp_path / "doctrees"]
    done = subprocess.run(
        [*command, *map(str, folders)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html/index.html").is_file()
