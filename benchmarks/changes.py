"""Changes of many objects: what `bulk_create` costs with `Changes` and without, for its caller and
after it, on each database: `python benchmarks/changes.py --objects 10000 --rounds 7`.

Each object is shown by two topics: one of its own, one that all share.
"""

from __future__ import annotations

import json
import statistics
import time
from decimal import Decimal
from typing import Any

from common import arguments, in_children, peak_memory, report, seconds


def measure(database: str, objects: int, rounds: int) -> list[dict[str, Any]]:
    """In a child: alternately without and with."""
    import django

    django.setup()
    from django.contrib.auth.models import User

    from django_live.core import sweeping
    from django_live.features.bulk import LiveQuerySet
    from tests.testapp.models import Order

    ann = User.objects.create(username="ann")
    found: dict[str, list[float]] = {
        name: [] for name in ("plain", "live", "plain_cpu", "live_cpu", "after", "after_cpu")
    }

    def make() -> list[Order]:
        return [Order(customer=ann, total=Decimal(n).scaleb(-2)) for n in range(objects)]

    def write(name: str, queryset: Any) -> None:
        made = make()
        began = time.thread_time()
        found[name].append(seconds(lambda: queryset.bulk_create(made)))
        found[f"{name}_cpu"].append(time.thread_time() - began)

    before = peak_memory()
    for _ in range(rounds):
        write("plain", Order.objects)
        write("live", LiveQuerySet(Order))
        began = time.process_time()
        found["after"].append(seconds(lambda: sweeping.errands.flush(600)))
        found["after_cpu"].append(time.process_time() - began)
    ratios = sorted(live / plain for live, plain in zip(found["live"], found["plain"], strict=True))
    middle = {name: round(statistics.median(times), 3) for name, times in found.items()}
    return [
        {
            "database": database,
            "objects": objects,
            "without_s": middle["plain"],
            "with_s": middle["live"],
            "ratio": round(statistics.median(ratios), 2),
            "best": round(min(found["live"]) / min(found["plain"]), 2),
            "cpu_ratio": round(min(found["live_cpu"]) / min(found["plain_cpu"]), 2),
            "numbered_s": middle["after"],
            "numbered_cpu_s": middle["after_cpu"],
            "memory_MB": (peak_memory() - before) // 2**20,
        }
    ]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", objects=10_000, rounds=5)
    if chosen.in_child:
        print(json.dumps(measure(chosen.in_child, chosen.objects, chosen.rounds)))
    else:
        report("changes", in_children(__file__, chosen.databases, {}))
