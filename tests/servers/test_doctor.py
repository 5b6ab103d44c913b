"""``live_doctor`` at a site that is well, behind a proxy that collects streams, and at what is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_live.management import examination
from tests.servers.test_nginx import COLLECTING
from tests.support.databases import CommandFailedError, ServerDatabase, server_database
from tests.support.nginx import Nginx
from tests.support.requirements import requires
from tests.support.servers import Server, free_port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ServerDatabase]]:
    with (
        server_database("sqlite", tmp_path_factory.mktemp("doctor")) as database,
        Server("uvicorn", env=database.env) as server,
    ):
        yield server, database


def findings(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(text.splitlines()[0])["findings"]:
        found.setdefault(one["name"], []).append(one)
    return found


def examined(database: ServerDatabase, url: str, *more: str) -> dict[str, list[dict[str, Any]]]:
    arguments = ["live_doctor", "--url", url, "--format", "json", *more]
    try:
        return findings(database.manage(*arguments))
    except CommandFailedError as error:
        return findings(str(error).partition("\n")[2])


def states(found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {name: own[0]["state"] for name, own in found.items()}


def test_a_site_that_is_well(site: tuple[Server, ServerDatabase]) -> None:
    server, database = site
    found = examined(database, f"{server.url}/live/")
    told = states(found)
    for name in ("store", "clock", "processes", "proxy", "websocket"):
        assert told[name] == "ok", found[name]
        assert found[name][0]["seconds"] is not None
    assert told["layer"] == "warning", "there is none"
    assert told["events"] in ("ok", "warning"), "without a layer they may take a second"
    assert "CHANNEL_LAYERS" in found["layer"][0]["advice"]


@requires("nginx")
def test_a_proxy_that_collects_is_found_and_what_to_change_is_said(
    site: tuple[Server, ServerDatabase],
) -> None:
    server, database = site
    with Nginx(COLLECTING.replace("SERVER", str(server.port))) as nginx:
        found = examined(database, f"{nginx.url}/live/", "--timeout", "2")
    (finding,) = [one for one in found["proxy"] if one["state"] == "error"]
    assert "collects" in finding["found"]
    assert "proxy_buffering off" in finding["advice"]
    (finding,) = found["websocket"]
    assert finding["state"] == "error", "this nginx passes no Upgrade on"


def test_addresses_that_lead_elsewhere(site: tuple[Server, ServerDatabase]) -> None:
    server, database = site
    found = examined(database, f"http://127.0.0.1:{free_port()}/live/")
    assert states(found)["proxy"] == "error"
    found = examined(database, f"{server.url}/nothing/")
    assert "404" in found["proxy"][0]["found"]


def test_another_sites_doctor_hears_nothing(site: tuple[Server, ServerDatabase]) -> None:
    server, _ = site
    with override_settings(SECRET_KEY="another"):
        found = list(examination.proxy(f"{server.url}/live/", 2.0))
    assert found[0].state == "error"
    assert "SECRET_KEY" in found[0].advice


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        out = StringIO()
        try:
            call_command("live_doctor", *arguments, stdout=out)
        except CommandError as error:
            return error.returncode, out.getvalue()
        return 0, out.getvalue()

    return run


@pytest.mark.django_db(transaction=True)
@override_settings(DJANGO_LIVE={"STORE": "memory", "NONSENSE": 1})
def test_settings_that_are_wrong_end_with_1(run: Run) -> None:
    code, text = run()
    assert code == 1
    assert "django_live.E001" in text
    assert "NONSENSE" in text


@pytest.mark.django_db(transaction=True)
def test_where_nobody_serves_it_says_so(run: Run) -> None:
    code, text = run()
    assert code == 0
    assert "no process serves streams" in text
    assert "no address was given" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "nonsense"],
        ["--url", "http://[bad"],
        ["--url", "http://h:99999/"],
        ["--timeout", "0"],
    ],
    ids=str,
)
def test_wrong_arguments(run: Run, arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_is_wrong_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    # The store's own clock, where it is this process's, was looked at before.
    monkeypatch.setattr(f"{examination.__name__}.time", SimpleNamespace(time=lambda: now() + 30))
    found = list(examination.clock())
    assert [(one.state, round(one.seconds or 0)) for one in found] == [("error", 30)]
