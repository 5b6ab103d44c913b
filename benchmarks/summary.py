"""All results in one file, `benchmarks/results.json`, and drawings and tables of them in the documentation.

    python benchmarks/summary.py

`make bench` ends with it. It takes what is in `benchmarks/results/`, whenever that was measured; what is not
there stays as it is in `results.json`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from tables import with_tables

IMAGES = HERE.parent / "docs" / "images"
PAGE = HERE.parent / "docs" / "concepts" / "performance.md"
PACKAGES = (
    "django",
    "channels",
    "channels-redis",
    "uvicorn",
    "granian",
    "hypercorn",
    "daphne",
    "django-eventstream",
    "uvloop",
    "httptools",
    "websockets",
)
PROGRAMS = {
    "node": ["node", "--version"],
    "nginx": ["nginx", "-v"],
    "redis": ["redis-server", "--version"],
}
OURS, YARDSTICK, OTHERS = "#0b7a75", "#8a8f98", "#c9a227"
# The same drawing twice is the same file, and no date is in it.
mpl.rcParams["svg.hashsalt"] = "django_live"


def main() -> None:
    file = HERE / "results.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    for path in (HERE / "results").glob("*.json"):
        results[path.stem] = json.loads(path.read_text())
    results = dict(sorted(results.items()))
    versions = {package: version_of(package) for package in PACKAGES}
    versions.update({name: version_of_program(command) for name, command in PROGRAMS.items()})
    kept = {"versions": versions, "results": results}
    file.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), {**results, "versions": versions}))
    if "fanout" in results:
        draw_fanout(results["fanout"]["rows"])
    if "growth" in results:
        draw_growth(results["growth"]["rows"])


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def version_of_program(command: list[str]) -> str:
    """The first number with dots that it says, or nothing where it is not installed."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    found = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
    return found[0] if found else ""


def draw_fanout(rows: list[dict[str, Any]]) -> None:
    """A bar for each subject: what a delivery costs the server, streams beside WebSockets."""
    kinds = ("SSE", "WebSocket")
    figure, places = plt.subplots(1, 2, figsize=(10, 5), sharex=True)
    for kind, place in zip(kinds, places, strict=True):
        chosen = [
            row for row in rows if row["subject"].endswith(kind) and "FAILED" not in row["result"]
        ]
        chosen.sort(key=lambda row: row["µs"], reverse=True)
        names = [row["subject"].removesuffix(" " + kind) for row in chosen]
        bars = place.barh(names, [row["µs"] for row in chosen], color=[color_of(n) for n in names])
        place.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        place.set_xscale("log")
        place.set_title(kind, fontsize=11)
        place.set_xlabel("µs of the server's processor for a delivery", fontsize=9)
        place.tick_params(labelsize=8)
        place.spines[["top", "right"]].set_visible(False)
    save(figure, "fanout")


def color_of(subject: str) -> str:
    if subject.startswith("live"):
        return OURS
    return YARDSTICK if subject.startswith("bare") else OTHERS


def draw_growth(rows: list[dict[str, Any]]) -> None:
    """Each case's cost beside the first one's."""
    figure, place = plt.subplots(figsize=(8, 4.5))
    shown = list(reversed(rows))
    bars = place.barh([row["what"] for row in shown], [row["of base"] for row in shown], color=OURS)
    place.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    place.axvline(1.0, color=YARDSTICK, linewidth=1)
    place.set_xlabel("cost of a delivery, of the first row's", fontsize=9)
    place.tick_params(labelsize=8)
    place.spines[["top", "right"]].set_visible(False)
    save(figure, "growth")


def save(figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
