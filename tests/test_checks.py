"""System checks: each number, the configuration that gets it, and one that does not."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.test import override_settings

from django_live import History, Topic, checks
from django_live.checks import (
    check_application,
    check_autocommit,
    check_layer,
    check_processes,
    check_runserver,
    check_settings,
    check_sqlite,
    check_topics,
    check_urls,
)
from django_live.core.topics import registry
from django_live.integrations import grip


class NotALog:
    """A store that fulfils no contract."""


def ids(messages: list[Any]) -> list[str]:
    return [str(message.id).removeprefix("django_live.") for message in messages]


def test_the_tests_own_site_is_right() -> None:
    assert run_checks(tags=["django_live"]) == []


@pytest.mark.parametrize("wrong", [{"STOER": "memory"}, {"HEARTBEAT": "x"}, {"SWEEP": 0}, []])
def test_e001_a_setting_that_is_not_one_or_has_a_wrong_value(wrong: Any) -> None:
    with override_settings(DJANGO_LIVE=wrong):
        assert ids(check_settings(None)) == ["E001"]


def test_e001_names_every_problem() -> None:
    with override_settings(DJANGO_LIVE={"A": 1, "B": 2}):
        assert ids(check_settings(None)) == ["E001", "E001"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"STORE": "redsi"},
        {"STORE": "no.such.Store"},
        {"STORE": "django_live.stores.memory.NoSuchLog"},
        {"STORE": f"{__name__}.NotALog"},
        {"STORE": "datetime.datetime.now"},
        {"DATABASE": "no_such_alias"},
        {"NAMESPACE": "no.such.function"},
        {"NAMESPACE": f"{__name__}.registry"},
    ],
    ids=str,
)
def test_e002_a_store_database_or_function_that_does_not_exist(wrong: dict[str, str]) -> None:
    with override_settings(DJANGO_LIVE=wrong):
        messages = check_settings(None)
        assert ids(messages) == ["E002"]
        assert next(iter(wrong.values())) in messages[0].msg


@pytest.mark.parametrize(
    "right",
    [
        {"STORE": "memory"},
        {"STORE": "memory", "DATABASE": "not_used"},
        {"STORE": "django_live.stores.memory.MemoryLog"},
        {"NAMESPACE": f"{__name__}.ids"},
    ],
    ids=str,
)
def test_what_exists_is_no_problem(right: dict[str, str]) -> None:
    with override_settings(DJANGO_LIVE=right):
        assert check_settings(None) == []


@pytest.fixture
def isolated() -> Iterator[None]:
    """What the test declares is forgotten after it."""
    with registry.isolated():
        yield


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("history", "overflow", "found"),
    [
        (History(), "", []),
        (History(), "replay", []),
        (History(), "disconnect", []),
        (History(), "drop", ["E003"]),
        (History(), "conflate", ["E003"]),
        (History(), "nonsense", ["E003"]),
        (None, "", []),
        (None, "drop", []),
        (None, "conflate", []),
        (None, "disconnect", []),
        (None, "replay", ["E003"]),
    ],
)
def test_e003_an_overflow_rule_that_does_not_go_with_the_history(
    history: History | None, overflow: str, found: list[str]
) -> None:
    type(
        "Checked",
        (Topic,),
        {"pattern": "checked/<slug:slug>", "history": history, "overflow": overflow},
    )
    assert ids(check_topics(None)) == found


def test_w001_the_urls_are_not_included() -> None:
    assert check_urls(None) == []
    with override_settings(ROOT_URLCONF="tests.testapp.urls"):
        assert ids(check_urls(None)) == ["W001"]


def test_w001_is_not_for_projects_without_urls() -> None:
    with override_settings(ROOT_URLCONF=None):
        assert check_urls(None) == []


def test_w002_daphne_without_an_application(settings: Any) -> None:
    settings.INSTALLED_APPS = ["daphne", *settings.INSTALLED_APPS]
    assert check_application(None) == []
    settings.ASGI_APPLICATION = None
    assert ids(check_application(None)) == ["W002"]


@pytest.mark.parametrize(
    ("argv", "apps", "found"),
    [
        (["manage.py", "runserver"], [], ["W009"]),
        (["manage.py", "runserver", "8001"], ["daphne"], []),
        (["manage.py", "check"], [], []),
        (["manage.py"], [], []),
    ],
)
def test_w009_a_runserver_that_cannot_stream(
    argv: list[str], apps: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    provider = "daphne" if apps else "django.contrib.staticfiles"
    monkeypatch.setattr("django_live.checks.serving.get_commands", lambda: {"runserver": provider})
    assert ids(check_runserver(None)) == found


def use_databases(monkeypatch: pytest.MonkeyPatch, databases: dict[str, Any]) -> None:
    """`override_settings` warns that connections that exist do not follow; the checks ask none."""
    monkeypatch.setattr(django_settings, "DATABASES", databases)


@pytest.mark.parametrize(("database", "found"), [({}, []), ({"AUTOCOMMIT": False}, ["W004"])])
def test_w004_autocommit_off(
    database: dict[str, Any], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_databases(monkeypatch, {"default": {**django_settings.DATABASES["default"], **database}})
    assert ids(check_autocommit(None)) == found


GOOD = {
    "init_command": "PRAGMA journal_mode=WAL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (GOOD, []),
        ({**GOOD, "timeout": 5}, ["timeout"]),
        ({**GOOD, "transaction_mode": "DEFERRED"}, ["IMMEDIATE"]),
        ({**GOOD, "init_command": "PRAGMA synchronous=NORMAL;"}, ["WAL"]),
        ({}, ["WAL", "IMMEDIATE", "timeout"]),
    ],
)
def test_w005_sqlite_as_it_comes(
    options: dict[str, Any], missing: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path / "db.sqlite3",
        "OPTIONS": options,
    }
    use_databases(monkeypatch, {"default": database})
    messages = check_sqlite(None)
    assert ids(messages) == ["W005"] * bool(missing)
    for word in missing:
        assert word in messages[0].msg
    with override_settings(DJANGO_LIVE={"STORE": "redis", "REDIS_URL": "redis://localhost"}):
        assert check_sqlite(None) == []
    use_databases(monkeypatch, {"default": {**database, "NAME": ":memory:"}})
    assert check_sqlite(None) == []
    use_databases(
        monkeypatch, {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "x"}}
    )
    assert check_sqlite(None) == []


def test_w005_a_file_that_is_in_wal_mode_already_needs_no_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "db.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE one (id)")
    options = {name: value for name, value in GOOD.items() if name != "init_command"}
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}
    use_databases(monkeypatch, {"default": database})
    assert check_sqlite(None) == []


PUBSUB = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}
IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
REDIS = {"STORE": "redis", "REDIS_URL": "redis://localhost"}


@pytest.mark.parametrize(
    ("live", "layers", "found"),
    [
        ({}, {}, []),
        ({}, {"default": PUBSUB}, []),
        ({}, {"default": IN_MEMORY}, ["W007"]),
        ({"CHANNEL_LAYER": "live"}, {"default": IN_MEMORY, "live": PUBSUB}, []),
        (REDIS, {"default": PUBSUB}, []),
        (REDIS, {}, ["W007"]),
        ({"STORE": "memory"}, {}, ["W006"]),
    ],
)
def test_w006_and_w007_what_only_one_process_hears(
    live: dict[str, str], layers: dict[str, Any], found: list[str]
) -> None:
    with override_settings(DJANGO_LIVE=live, CHANNEL_LAYERS=layers):
        assert ids(check_processes(None)) == found


@pytest.mark.parametrize("is_deployed", [True, False])
def test_some_are_for_sites_that_other_people_use(is_deployed: bool) -> None:
    with override_settings(DJANGO_LIVE={"STORE": "memory"}):
        found = run_checks(tags=["django_live"], include_deployment_checks=is_deployed)
    assert ids(found) == ["W006"] * is_deployed


CORE = "channels_redis.core.RedisChannelLayer"


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ({}, []),
        ({"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}, []),
        ({"BACKEND": CORE}, ["W008"]),
        ({"BACKEND": CORE, "CONFIG": {"hosts": ["redis://here:6379"]}}, ["W008"]),
        ({"BACKEND": CORE, "CONFIG": {"hosts": [("here", 6379)]}}, ["W008"]),
        ({"BACKEND": CORE, "CONFIG": {"hosts": ["redis://here?socket_timeout=15"]}}, []),
        ({"BACKEND": CORE, "CONFIG": {"hosts": [{"address": "x", "socket_timeout": 5}]}}, ["W008"]),
        ({"BACKEND": CORE, "CONFIG": {"hosts": [{"address": "x", "socket_timeout": 15}]}}, []),
        ({"BACKEND": CORE, "CONFIG": {"hosts": [{"address": "x", "socket_timeout": None}]}}, []),
    ],
)
def test_w008_a_layer_that_times_out_while_it_waits(
    layer: dict[str, Any], found: list[str]
) -> None:
    with override_settings(DJANGO_LIVE={}, CHANNEL_LAYERS={"default": layer} if layer else {}):
        assert ids(check_layer(None)) == found


# -- who and where from ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"AUTHENTICATORS": ["session", "tests.transports.authenticators.by_key"]}, []),
        ({"AUTHENTICATORS": ["no.such.thing"]}, ["django_live.E002"]),
        ({"AUTHENTICATORS": ["tests.transports.authenticators.KEYS"]}, ["django_live.E002"]),
        ({"AUTHENTICATORS": "session"}, ["django_live.E001"]),
        ({"AUTHENTICATORS": [1]}, ["django_live.E001"]),
        ({"PROXIES": -1}, ["django_live.E001"]),
        ({"PROXIES": True}, ["django_live.E001"]),
        ({"MAX_CONNECTIONS_PER_ADDRESS": 0}, ["django_live.E001"]),
        ({"CORS_CREDENTIALS": 1}, ["django_live.E001"]),
        ({"CORS_ORIGINS": ["https://app.example", "*"]}, []),
        ({"CORS_ORIGINS": ["app.example"]}, ["django_live.E011"]),
        ({"CORS_ORIGINS": ["*"], "CORS_CREDENTIALS": True}, ["django_live.E011"]),
    ],
)
def test_settings_of_access(values: dict[str, Any], found: list[str], settings: Any) -> None:
    settings.DJANGO_LIVE = values
    assert [message.id for message in checks.check_settings(None)] == found


@pytest.mark.parametrize(
    ("origin", "trusted", "found"),
    [
        ("https://app.example", ["https://app.example"], []),
        ("https://app.example", [], ["django_live.W011"]),
        ("http://app.example", ["http://app.example"], ["django_live.W010"]),
        ("https://*.example", [], ["django_live.W010", "django_live.W011"]),
    ],
)
def test_cookies_for_other_origins(
    origin: str, trusted: list[str], found: list[str], settings: Any
) -> None:
    settings.CSRF_TRUSTED_ORIGINS = trusted
    settings.DJANGO_LIVE = {"CORS_ORIGINS": [origin]}
    assert checks.check_origins(None) == []
    settings.DJANGO_LIVE = {"CORS_ORIGINS": [origin], "CORS_CREDENTIALS": True}
    assert [message.id for message in checks.check_origins(None)] == found


def test_sessions_in_cookies(settings: Any) -> None:
    assert checks.check_sessions(None) == []
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert [message.id for message in checks.check_sessions(None)] == ["django_live.W012"]


def test_hosts_and_bounds(settings: Any) -> None:
    def found() -> list[str | None]:
        return [message.id for message in checks.check_bounds(None)]

    assert found() == []
    settings.ALLOWED_HOSTS = ["shop.example", "*"]
    assert found() == ["django_live.W020"]
    settings.ALLOWED_HOSTS = ["shop.example", ".shop.example"]
    settings.DJANGO_LIVE = {"TICKET_LIFETIME": 600, "RECHECK": 3600, "STREAM_LIFETIME": 86_400}
    assert found() == []
    for name in ("TICKET_LIFETIME", "RECHECK", "STREAM_LIFETIME"):
        settings.DJANGO_LIVE = {name: 100_000}
        assert found() == ["django_live.W021"]


@override_settings(DJANGO_LIVE={"NOTIFICATIONS_HQ": True})
def test_w022_notifications_of_a_package_that_is_not_installed() -> None:
    (found,) = checks.check_notifications_hq(None)
    assert found.id == "django_live.W022"
    assert "'notifications'" in str(found.hint)
    assert "django_live.notifications" not in str(found.hint)
    with override_settings(DJANGO_LIVE={}):
        assert checks.check_notifications_hq(None) == []


@override_settings(MEDIA_ROOT="")
def test_w025_files_of_the_chat_without_a_place() -> None:
    (found,) = checks.check_chat_files(None)
    assert found.id == "django_live.W025"
    without_chat = [app for app in django_settings.INSTALLED_APPS if app != "django_live.chat"]
    for elsewhere in (
        {"MEDIA_ROOT": "/srv/media"},
        {"STORAGES": {"default": {"BACKEND": "storages.backends.s3.S3Storage"}}},
        {"INSTALLED_APPS": without_chat},
    ):
        with override_settings(**elsewhere):
            assert checks.check_chat_files(None) == []


def test_w024_a_proxy_that_is_not_believed() -> None:
    with override_settings(MIDDLEWARE=[], GRIP_PROXIES=[{"control_uri": "http://127.0.0.1:5561"}]):
        messages = [str(found.msg) for found in grip.check_proxies(None)]
    assert ["MIDDLEWARE" in message for message in messages] == [True, False]
    assert '"key"' in messages[1]
    proxies = [{"control_uri": "http://127.0.0.1:5561", "key": "secret"}]
    with override_settings(MIDDLEWARE=[grip.MIDDLEWARE], GRIP_PROXIES=proxies):
        assert grip.check_proxies(None) == []
