"""The metrics: who may read them, that Prometheus can, and that they are those of every process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from prometheus_client.parser import text_string_to_metric_families

from django_live import publish
from django_live.core import survey
from django_live.core.counting import METRICS, SECONDS, Histogram
from django_live.core.state import get_state
from django_live.core.survey import Process, Survey
from django_live.integrations import prometheus
from tests.docs.markdown import ROOT
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "/live/metrics/"
WITH_TOKEN = override_settings(DJANGO_LIVE={**settings.DJANGO_LIVE, "METRICS_TOKEN": "let me in"})


@pytest.fixture
def process(transactional_db: None) -> Iterator[Serving]:  # noqa: ARG001 - its threads see it
    with serving() as one:
        yield one


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, as Prometheus' own parser reads it; a series that is there twice is a fault."""
    found: dict[Any, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return sum(
        number
        for (own, have), number in samples(text).items()
        if own == name and labels.items() <= dict(have).items()
    )


@WITH_TOKEN
def test_only_the_token_or_the_permission_opens_it(client: Client) -> None:
    assert client.get(ADDRESS).status_code == 401
    for shown in ("", "Bearer", "Bearer let me", "Bearer lët me in", "let me in"):
        assert client.get(ADDRESS, headers={"authorization": shown}).status_code == 401
    assert client.get(ADDRESS, headers={"authorization": "Bearer let me in"}).status_code == 200
    user = User.objects.create_user("anna", is_staff=True)
    client.force_login(user)
    assert client.get(ADDRESS).status_code == 401
    user.user_permissions.add(Permission.objects.get(codename="view_process"))
    assert client.get(ADDRESS).status_code == 200
    assert client.post(ADDRESS).status_code == 405


def test_without_a_token_nobody_is_asked_for_one(client: Client) -> None:
    for shown in ("Bearer ", "Bearer None", "Bearer"):
        assert client.get(ADDRESS, headers={"authorization": shown}).status_code == 403


def scrape(query: str = "") -> str:
    admin, _ = User.objects.get_or_create(username="root", is_superuser=True)
    client = Client()
    client.force_login(admin)
    response = client.get(ADDRESS + query)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    return response.text


def test_what_is_open_and_what_was_counted(process: Serving) -> None:
    before = scrape()
    first = process.connect("open/a")
    process.connect("open/a", transport="websocket")
    publish("open/a", "said", 1)
    process.wait_for(lambda: b"said" in first.sink.received)  # type: ignore[attr-defined]
    text = scrape()
    for transport in ("sse", "websocket"):
        assert value(text, "django_live_connections", transport=transport) == 1
    assert value(text, "django_live_subscriptions") == 2
    deliveries = "django_live_deliveries_total"
    assert value(text, deliveries) - value(before, deliveries) == 2
    count = "django_live_delivery_lag_seconds_count"
    assert value(text, count) - value(before, count) == 2
    assert value(text, "django_live_store_seconds_count", question="heads") > 0
    told = {name for name, _ in samples(text)}
    for metric in METRICS:
        base = f"django_live_{metric.name}"
        names = {base, f"{base}_total", f"{base}_seconds_count"}
        assert names & told or metric.label, metric.name
    assert value(scrape("?process=own"), "django_live_processes") == 1


def test_buckets_are_cumulative() -> None:
    histogram = Histogram()
    for seconds in (0.0001, 0.3, 0.3, 100.0):
        histogram.observe(seconds)
    told = dict(prometheus._cumulative(histogram.buckets))
    assert (told["0.001"], told["0.25"], told["0.5"], told["10.0"], told["+Inf"]) == (1, 1, 3, 3, 4)
    assert len(told) == len(SECONDS) + 1


def test_loops_of_one_process_are_one_series_and_processes_are_two() -> None:
    answer = {"connections": {"sse": 2}, "counters": {"deliveries": 5}}
    processes = {
        id: Process(id, "web1", pid) for id, pid in (("one", 7), ("loop of one", 7), ("two", 8))
    }
    found = Survey(processes, dict.fromkeys(processes, answer), [Process("x", "web2", 9)])
    text = prometheus.exposition(found).decode()
    assert value(text, "django_live_connections", process="web1:7") == 4
    assert value(text, "django_live_deliveries_total", process="web1:7") == 5
    assert value(text, "django_live_deliveries_total") == 10
    assert value(text, "django_live_processes_missing") == 1


@pytest.mark.usefixtures("process")
def test_a_process_that_does_not_answer_costs_its_share() -> None:
    told = '{"host": "web9", "pid": 7, "started": 1.0, "version": "0", "release": ""}'
    get_state().set(survey.PROCESSES, {"web9 7 beef": told}, ttl=30)
    text = scrape()
    assert value(text, "django_live_processes") == 1
    assert value(text, "django_live_processes_missing") == 1


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "IS_INSTALLED", False)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    response = client.get(ADDRESS)
    assert response.status_code == 501
    assert "django-live-features[metrics]" in response.text


def test_the_dashboard_asks_for_what_is_there() -> None:
    import re

    dashboard = json.loads((ROOT / "docs/howto/grafana.json").read_text())
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            asked |= set(re.findall(r"django_live_\w+", target["expr"]))
    there = {"django_live_processes", "django_live_processes_missing"}
    for metric in METRICS:
        base = f"django_live_{metric.name}"
        suffixes = {
            "counter": ["_total"],
            "gauge": [""],
            "histogram": ["_seconds_bucket", "_seconds_sum", "_seconds_count"],
        }[metric.kind]
        there |= {base + suffix for suffix in suffixes}
    assert asked <= there, asked - there
    assert len(asked) > 12
