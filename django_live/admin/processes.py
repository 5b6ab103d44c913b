"""The processes that serve streams, with small charts of the last minutes."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..core import survey
from ..core.facts import Sample
from ..models import Process
from .pages import LivePage, missing

WIDTH, HEIGHT = 120, 28
CHARTS = {
    "connections": (_("Connections"), 1.0, ""),
    "deliveries": (_("Deliveries"), 1.0, "/s"),
    "bus_lag": (_("Bus lag"), 1000.0, " ms"),
    "store_latency": (_("Store"), 1000.0, " ms"),
}
"""By what a sample has: title, what it is multiplied by, unit."""


@admin.register(Process)
class ProcessAdmin(LivePage):
    permission = "view_process"
    template = "django_live/admin/processes.html"
    part = "django_live/admin/processes_part.html"

    def show(self, request: HttpRequest) -> dict[str, Any]:
        found = survey.ask("process", {"samples": True})
        return {
            "missing": missing(found),
            "rows": [
                _row(found.processes[id], answer)
                for id, answer in found.answers.items()
                if id in found.processes
            ],
        }


def _row(process: survey.Process, answer: dict[str, Any]) -> dict[str, Any]:
    counters = answer.get("counters", {})
    samples = [Sample(*one) for one in answer.get("samples", ())]
    return {
        "process": process,
        "uptime": max(time.time() - process.started, 0),
        "draining": answer.get("draining", False),
        "connections": sum(answer.get("connections", {}).values()),
        "by_transport": sorted(answer.get("connections", {}).items()),
        "subscriptions": answer.get("subscriptions", 0),
        "topics": answer.get("topics", 0),
        "unsent": answer.get("unsent_bytes", 0),
        "dropped": counters.get("dropped", 0),
        "replays": counters.get("replays", 0),
        "gaps": counters.get("gaps", 0),
        "resets": sum(counters.get("resets", {}).values()),
        "charts": [_chart(name, samples) for name in CHARTS],
    }


def _chart(name: str, samples: list[Sample]) -> dict[str, Any]:
    """A line of points, in a box that an SVG of this size shows."""
    title, factor, unit = CHARTS[name]
    values = [float(getattr(sample, name)) * factor for sample in samples]
    most = max([*values, 1e-9])
    step = WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{place * step:.1f},{HEIGHT - 2 - value / most * (HEIGHT - 4):.1f}"
        for place, value in enumerate(values)
    )
    now = values[-1] if values else 0.0
    return {
        "title": title,
        "points": points,
        "now": f"{now:.1f}" if factor != 1.0 else f"{now:.0f}",
        "most": f"{max([*values, 0.0]):.1f}",
        "unit": unit,
        "width": WIDTH,
        "height": HEIGHT,
    }
