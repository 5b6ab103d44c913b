"""All results in one file, `benchmarks/results.json`, and drawings of them for the documentation.

    python benchmarks/summary.py

`make bench` ends with it. It draws what is in `benchmarks/results/`, whenever that was measured.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "images"
PACKAGES = (
    "django",
    "channels",
    "channels-redis",
    "uvicorn",
    "granian",
    "hypercorn",
    "daphne",
    "django-eventstream",
)
OURS, YARDSTICK, OTHERS = "#0b7a75", "#8a8f98", "#c9a227"
# The same drawing twice is the same file, and no date is in it.
mpl.rcParams["svg.hashsalt"] = "django_live"


def main() -> None:
    results = {
        path.stem: json.loads(path.read_text())
        for path in sorted((HERE / "results").glob("*.json"))
    }
    kept = {"versions": {package: version_of(package) for package in PACKAGES}, "results": results}
    (HERE / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    if "fanout" in results:
        draw_fanout(results["fanout"]["rows"])
    if "growth" in results:
        draw_growth(results["growth"]["rows"])


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


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
