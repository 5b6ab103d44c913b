"""The parts of our Markdown pages that tests look at: fenced blocks, links, headings, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"(`{3,}|~{3,})\s*([^\s`]*)[^`]*$")
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->$")
_STEP = re.compile(r"\*\*(\d+)\.\*\*")
_HEADING = re.compile(r"(#+)\s+(.*?)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every page that is written by hand, the README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    """Of its first line of content, counted from 1."""
    language: str
    text: str
    note: str
    """What an invisible comment on the line above the fence says; tests read it."""
    section: str
    """The last heading before it."""
    step: int
    """N of the last ``**N.**`` in its section's text; 0 before the first one."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. Steps are counted through to its next ``##`` heading."""
    return list(_blocks(page, page.read_text().split("\n")))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    section, step, note, number = "", 0, "", 0
    while number < len(lines):
        line = lines[number]
        if opening := _FENCE.match(line):
            start = number + 1
            end = next(i for i in range(start, len(lines)) if lines[i].rstrip() == opening[1])
            content = "\n".join(lines[start:end]) + "\n"
            yield Block(page, start + 1, opening[2], content, note, section, step)
            number = end
        elif heading := _HEADING.match(line):
            section = heading[2]
            step = 0 if len(heading[1]) <= 2 else step
        elif found := _STEP.match(line):
            step = int(found[1])
        comment = _COMMENT.match(line)
        note = comment[1] if comment else ""
        number += 1


def without_blocks(page: Path) -> str:
    """The page without its fenced blocks."""
    text, inside = [], ""
    for line in page.read_text().split("\n"):
        fence = _FENCE.match(line)
        if inside:
            inside = "" if line.rstrip() == inside else inside
        elif fence:
            inside = fence[1]
        else:
            text.append(line)
    return "\n".join(text)


def links(page: Path) -> list[str]:
    """Targets of the page's inline links."""
    return _LINK.findall(re.sub(r"`[^`\n]+`", "``", without_blocks(page)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub (and MyST) give to the page's headings."""
    found = (_HEADING.match(line) for line in without_blocks(page).split("\n"))
    slugs = (re.sub(r"[^\w\- ]", "", heading[2].lower()) for heading in found if heading)
    return {slug.strip().replace(" ", "-") for slug in slugs}


def table(page: Path, heading: str, which: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, as written, without its head."""
    text = without_blocks(page)
    match = re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE)
    assert match, f"{page.name} has no heading {heading!r}"
    section = re.split(r"^#+ ", text[match.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section + "\n", re.MULTILINE)
    rows = tables[which].strip().split("\n")[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code(cell: str) -> list[str]:
    """The code spans of a table's cell."""
    return re.findall(r"`([^`]+)`", cell)
