"""The boards. Whoever is logged in may see them; the totals of the shop are for staff."""

from __future__ import annotations

import os
import random
from typing import Any

from django.db.models import Count

from django_live import Topic, Viewer
from django_live.features.dashboards import Keyed, Latest, Lines, Window, live_source
from django_live.features.dashboards.inputs import prometheus_metrics, system_metrics
from django_live.features.dashboards.reading import snapshot
from example_project.orders.models import Order
from example_project.orders.permissions import may_see_all_orders

METRICS_URL = "LIVE_DEMO_METRICS"
"""Names the environment variable with the address of a program's metrics."""


class ForMembers(Topic):
    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user is not None and viewer.user.is_authenticated)


class System(ForMembers, Window):
    """The machine that the demo runs on."""

    pattern = "boards/system"
    points = 300

    @live_source(every=1)
    def measure(self) -> dict[str, float]:
        metrics = system_metrics()
        return {name: metrics[name] for name in ("cpu", "memory")}


class Memory(ForMembers, Latest):
    pattern = "boards/memory"

    @live_source(every=2)
    def measure(self) -> dict[str, float]:
        return system_metrics()


class OrderTotals(Keyed):
    """Orders by status: one query for all who watch."""

    pattern = "boards/orders"

    def can_subscribe(self, viewer: Viewer) -> bool:
        return may_see_all_orders(viewer.user)

    @live_source(every=2)
    def count(self) -> dict[str, dict[str, Any]]:
        counts = dict(Order.objects.values_list("status").annotate(Count("pk")))
        return {
            status.value: {"status": str(status.label), "orders": counts.get(status.value, 0)}
            for status in Order.Status
        }


class RandomWalk(ForMembers, Window):
    """A price that nobody pays: each step is chance."""

    pattern = "boards/random-walk"
    points = 240

    @live_source(every=0.5)
    def step(self) -> dict[str, float]:
        items = snapshot(self)["items"]
        price = items[-1][2]["price"] if items else 100.0
        return {"price": round(price * (1 + random.gauss(0, 0.002)), 2)}


class SiteLog(ForMembers, Lines):
    """What the demo logs."""

    pattern = "boards/log"
    lines = 200


class Metrics(ForMembers, Keyed):
    """What another program says of itself in Prometheus' text format."""

    pattern = "boards/metrics"

    @live_source(every=5)
    def fetch(self) -> dict[str, dict[str, Any]]:
        url = os.environ.get(METRICS_URL)
        return prometheus_metrics(url) if url else {}
