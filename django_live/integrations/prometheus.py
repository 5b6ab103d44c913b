"""``live/metrics/``: what every process counts, for Prometheus. Needs the extra ``metrics``.

A scrape comes to one process of many. So it asks all of them, and each is a series of its own with the
label ``process``: a sum or a rate over them is right whatever process answers, and when one is gone its
series ends instead of making a sum fall. ``?process=own`` tells of the process that answers and of
nobody else, for those who scrape each one.

Must keep true: nobody reads it without a right to; a process that does not answer costs a scrape its
share, and is counted as missing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache

from ..conf import live_settings
from ..core import survey
from ..core.counting import METRICS, SECONDS, Metric

PREFIX = "django_live_"
PERMISSION = "django_live.view_process"
BOUNDS = [*(str(bound) for bound in SECONDS), "+Inf"]
OWN = "own"

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
except ImportError:  # the extra is not installed
    IS_INSTALLED = False
else:
    IS_INSTALLED = True


def _undemanding(view: Any) -> Any:
    """No login page for a scraper, and no transaction: a survey inside of one would be heard after it."""
    view = login_not_required(never_cache(view))
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@_undemanding
def metrics(request: HttpRequest) -> HttpResponse:
    """``GET live/metrics/``, with the token of ``METRICS_TOKEN`` or by a user with ``view_process``."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET"})
    if not _may_read(request):
        headers = {"WWW-Authenticate": "Bearer"} if live_settings().METRICS_TOKEN else {}
        return HttpResponse(status=401 if headers else 403, headers=headers)
    if not IS_INSTALLED:
        text = 'pip install "django-live-features[metrics]"\n'
        return HttpResponse(text, status=501, content_type="text/plain")
    of = own_processes() if request.GET.get("process") == OWN else None
    try:
        found = survey.ask("process", of=of)
    except Exception as error:  # an answer that says so is better than none
        text = f"# The processes could not be asked: {type(error).__name__}\n"
        return HttpResponse(text, status=503, content_type="text/plain")
    return HttpResponse(exposition(found), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token = live_settings().METRICS_TOKEN
    shown = request.headers.get("Authorization", "")
    if token and secrets.compare_digest(shown.encode(), f"Bearer {token}".encode()):
        return True
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.has_perm(PERMISSION))


def own_processes() -> list[str]:
    """The event loops of this very process."""
    return [id for id, process in survey.processes().items() if process.pid == os.getpid()]


def exposition(found: survey.Survey) -> bytes:
    """What came back, in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(found))
    text: bytes = generate_latest(registry)
    return text


class _Collector:
    """Makes families of metrics of what every process told."""

    def __init__(self, found: survey.Survey) -> None:
        self._found = found

    def collect(self) -> Iterator[Any]:
        found = self._found
        answers = list(self._by_process().items())
        yield GaugeMetricFamily(
            f"{PREFIX}processes", "Processes that answered.", value=len(answers)
        )
        yield GaugeMetricFamily(
            f"{PREFIX}processes_missing",
            "Processes that are registered and did not answer.",
            value=len(found.missing),
        )
        info = GaugeMetricFamily(
            f"{PREFIX}process_started_seconds",
            "When a process began, in seconds since 1970.",
            labels=["process", "version", "release"],
        )
        started = {
            (self._label(process.id), process.version, process.release): process.started
            for process in reversed(found.processes.values())
            if process.id in found.answers
        }
        for labels, began in started.items():
            info.add_metric(labels, began)
        yield info
        for metric in METRICS:
            yield _family(metric, answers)

    def _by_process(self) -> dict[str, dict[str, Any]]:
        """Event loops of one process count together, and each has connections of its own."""
        told: dict[str, dict[str, Any]] = {}
        for id, answer in self._found.answers.items():
            known = told.setdefault(self._label(id), {"counters": answer.get("counters", {})})
            for metric in METRICS:
                if metric.kind == "gauge":
                    value = answer.get(metric.name, {} if metric.label else 0)
                    known[metric.name] = _sum(known.get(metric.name), value)
        return told

    def _label(self, id: str) -> str:
        process = self._found.processes.get(id)
        return f"{process.host}:{process.pid}" if process else id


def _family(metric: Metric, answers: Iterable[tuple[str, Mapping[str, Any]]]) -> Any:
    labels = ["process", *([metric.label] if metric.label else [])]
    kind: Any = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }[metric.kind]
    unit = "_seconds" if metric.kind == "histogram" else ""
    family = kind(f"{PREFIX}{metric.name}{unit}", metric.help, labels=labels)
    for process, answer in answers:
        told = answer if metric.kind == "gauge" else answer.get("counters", {})
        value = told.get(metric.name, {} if metric.label else 0)
        parts = value if metric.label else {"": value}
        for part, one in parts.items():
            own = [process, part] if metric.label else [process]
            if metric.kind != "histogram":
                family.add_metric(own, one)
            elif one:
                family.add_metric(own, buckets=_cumulative(one["buckets"]), sum_value=one["sum"])
    return family


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(other, dict):
        return (one or 0) + other
    return {key: (one or {}).get(key, 0) + other.get(key, 0) for key in {**(one or {}), **other}}


def _cumulative(buckets: Iterable[int]) -> list[tuple[str, float]]:
    """Prometheus counts in each bucket all that are below it, too."""
    total = 0
    told: list[tuple[str, float]] = []
    for bound, count in zip(BOUNDS, buckets, strict=True):
        total += count
        told.append((bound, float(total)))
    return told
