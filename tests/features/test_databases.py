"""Several databases, routers, replicas, requests in transactions, and connections that come and go."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, TestCase
from django.urls import path

from django_live import apublish, publish
from django_live.core.hooks import STORE_THREADS, in_thread, store_threads
from django_live.core.log import get_log
from django_live.core.outbox import get_outbox
from django_live.core.state import get_state
from django_live.core.sweeping import errands, sweep, sweep_everywhere
from django_live.core.topics import as_topic
from django_live.models import PendingEvent, StoredEvent
from django_live.stores.database import DatabaseLog
from tests.stores.aliases import (
    ELSEWHERE,
    WITH_SERVERS,
    alias_elsewhere,
    postgresql_elsewhere,
    sqlite_at,
)
from tests.support.requirements import require, requires
from tests.testapp.models import Order

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

A = "open/a"


def told(name: str = A) -> list[Any]:
    page = get_log().read(as_topic(name), 0, 10_000, 10**8)
    return [json.loads(event.data) for event in page.events]


@pytest.fixture(autouse=True)
def new_threads() -> Iterator[None]:
    """Each thread keeps what it knows of an alias, which is another database in the next test."""
    store_threads.cache_clear()
    yield
    barrier = threading.Barrier(STORE_THREADS)

    def close() -> None:
        barrier.wait(10)
        for alias in ("default", ELSEWHERE):
            if hasattr(connections._connections, alias):  # type: ignore[attr-defined]
                connections[alias].close()

    wait([store_threads().submit(close) for _ in range(STORE_THREADS)])
    assert store_threads().flush()
    store_threads.cache_clear()


@contextmanager
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The alias "elsewhere" is one that those see who go through all."""

    def both(initialized_only: bool = False) -> list[BaseDatabaseWrapper]:
        wrappers = [connections["default"], connections[ELSEWHERE]]
        return [one for one in wrappers if one.connection or not initialized_only]

    with monkeypatch.context() as patch:
        patch.setattr(connections, "all", both)
        patch.setattr(get_outbox(), "aliases", lambda: ["default", ELSEWHERE])
        yield


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A second database, with all tables."""
    with alias_elsewhere(sqlite_at(tmp_path / "elsewhere.sqlite3")) as alias, listed(monkeypatch):
        call_command("migrate", database=alias, verbosity=0)
        yield alias


@pytest.fixture(params=WITH_SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """The name of a database server."""
    require(request.param)
    return str(request.param)


class RollBack(Exception):
    """Ends a transaction on purpose."""


# -- several databases -----------------------------------------------------------------------------


def test_events_wait_for_the_transaction_of_the_alias_they_name(elsewhere: str) -> None:
    with transaction.atomic(), suppress(RollBack), transaction.atomic(using=elsewhere):
        publish(A, "said", "of the other one", using=elsewhere)
        raise RollBack
    assert told() == []
    with suppress(RollBack), transaction.atomic():
        with transaction.atomic(using=elsewhere):
            publish(A, "said", "of the other one", using=elsewhere)
            assert PendingEvent.objects.using(elsewhere).count() == 1
        # That one is committed, whatever becomes of this one.
        raise RollBack
    sweep_everywhere()
    assert told() == ["of the other one"]
    assert not PendingEvent.objects.using(elsewhere).exists()


def test_rows_of_another_alias_are_told_after_the_commit_there(elsewhere: str) -> None:
    ann = User.objects.db_manager(elsewhere).create_user("ann")
    with transaction.atomic(using=elsewhere):
        order = Order.objects.using(elsewhere).create(customer=ann)
        assert told(f"orders/{order.pk}") == []
    sweep_everywhere()
    assert [data["status"] for data in told(f"orders/{order.pk}")] == ["new"]
    # The log is where DJANGO_LIVE["DATABASE"] says, wherever the rows are.
    assert StoredEvent.objects.using("default").exists()
    assert not StoredEvent.objects.using(elsewhere).exists()


def test_the_log_may_have_a_database_of_its_own(elsewhere: str, settings: Settings) -> None:
    settings.DJANGO_LIVE = {"DATABASE": elsewhere}
    with suppress(RollBack), transaction.atomic():
        publish(A, "said", 0)
        raise RollBack
    with transaction.atomic():
        publish(A, "said", 1)
        assert PendingEvent.objects.using("default").count() == 1
    publish(A, "said", 2)
    assert told() == [1, 2]
    assert StoredEvent.objects.using(elsewhere).count() == 2
    assert not StoredEvent.objects.using("default").exists()


# -- replicas --------------------------------------------------------------------------------------


class ReadsFromReplica:
    """What a project with replicas has: writes here, reads there."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ELSEWHERE

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


@pytest.fixture
def replica(elsewhere: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A replica that lags so far behind that it is empty; the router reads from it."""
    settings.DATABASE_ROUTERS = [ReadsFromReplica()]
    # Undone before what `elsewhere` has put in its place.
    with monkeypatch.context() as patch:
        patch.setattr(get_outbox(), "aliases", lambda: ["default"])
        yield elsewhere


def test_nothing_of_ours_is_read_from_a_replica(replica: str, heard: Heard) -> None:
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    asked: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    with connections[replica].execute_wrapper(note):
        order = Order.objects.create(customer_id=ann.pk)
        order.status = "paid"
        with transaction.atomic():
            order.save()
        order.customer_id = bob.pk
        order.save()
        publish(A, "said", 1)
        assert sweep_everywhere() == {"default": 0}
        get_state().set("presence", {"ann": ""})
        assert get_state().get("presence", "ann")
        assert get_log().trim() == 0
        assert told() == [1]
    assert not [sql for sql in asked if "django_live_" in sql]
    assert [type for type, _ in heard(f"customers/{ann.pk}/orders")] == [
        *("created", "updated", "deleted")
    ]
    assert [type for type, _ in heard(f"customers/{bob.pk}/orders")] == ["created"]


def test_the_background_leaves_no_connection_open(elsewhere: str, settings: Settings) -> None:
    """Its thread ends when it is idle, and what it had open nobody could close any more."""
    settings.DJANGO_LIVE = {"DATABASE": elsewhere}
    get_log.cache_clear()
    left_open: dict[str, bool] = {}

    def sweep_as_the_background_does() -> None:
        errands._work("default")
        for alias in ("default", elsewhere):
            left_open[alias] = connections[alias].connection is not None

    with transaction.atomic():
        publish(A, "said", 1)
        connections["default"].run_on_commit.clear()  # as if this process had died then
    thread = threading.Thread(target=sweep_as_the_background_does)
    thread.start()
    thread.join(20)
    assert left_open == {"default": False, elsewhere: False}


def test_the_mirror_of_a_test_run_is_the_same_database(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `TEST: {"MIRROR": "default"}` makes it."""
    connections[elsewhere].close()
    primary = connections["default"].settings_dict
    with monkeypatch.context() as patch:
        patch.setattr(connections._connections, elsewhere, _wrapper_like(primary))  # type: ignore[attr-defined]
        log = get_log()
        assert isinstance(log, DatabaseLog)
        assert log.lives_in(elsewhere)
        with transaction.atomic(using=elsewhere):
            publish(A, "said", 1, using=elsewhere)
        assert sweep_everywhere() == {"default": 0, elsewhere: 0}
        assert told() == [1]
        connections[elsewhere].close()


def _wrapper_like(primary: dict[str, Any]) -> BaseDatabaseWrapper:
    backend = load_backend(primary["ENGINE"])
    wrapper: BaseDatabaseWrapper = backend.DatabaseWrapper({**primary}, ELSEWHERE)
    return wrapper


# -- requests --------------------------------------------------------------------------------------


def ends_well(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    publish(A, "said", "well")
    return HttpResponse(str(len(told())))


def ends_badly(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    publish(A, "said", "badly")
    raise RollBack


async def async_view(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    await apublish(A, "said", "from an async view")

    @sync_to_async
    def in_a_transaction() -> None:
        with suppress(RollBack), transaction.atomic():
            publish(A, "said", "rolled back")
            raise RollBack
        with transaction.atomic():
            publish(A, "said", "from a transaction")

    await in_a_transaction()
    return HttpResponse("ok")


urlpatterns = [
    path("well", ends_well),
    path("badly", ends_badly),
    path("async", async_view),
]


def test_a_request_in_a_transaction_tells_when_it_ends_well(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    client = Client(raise_request_exception=False)
    assert client.get("/badly").status_code == 500
    assert told() == []
    assert client.get("/well").content == b"0"
    assert told() == ["well"]
    # Django refuses async views with ATOMIC_REQUESTS: nothing of ours changes that.
    assert client.get("/async").status_code == 500
    assert told() == ["well"]


def test_an_async_view_tells_what_is_committed(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__

    async def ask() -> int:
        response = await AsyncClient().get("/async")
        return int(response.status_code)

    assert asyncio.run(ask()) == 200
    assert told() == ["from an async view", "from a transaction"]


# -- transactions in transactions ------------------------------------------------------------------


def test_a_savepoint_that_is_rolled_back_takes_its_own_events_only() -> None:
    with transaction.atomic(durable=True):
        publish(A, "said", 1)
        with suppress(RollBack), transaction.atomic():
            publish(A, "said", "gone")
            with transaction.atomic():
                publish(A, "said", "gone, too")
            raise RollBack
        with transaction.atomic(), transaction.atomic(savepoint=False):
            publish(A, "said", 2)
            with suppress(RollBack), transaction.atomic():
                publish("open/b", "said", "gone")
                raise RollBack
        publish(A, "said", 3)
        assert told() == []
    assert told() == [1, 2, 3]
    assert told("open/b") == []
    assert not PendingEvent.objects.exists()


def test_after_a_rollback_nothing_is_left() -> None:
    with suppress(RollBack), transaction.atomic():
        publish(A, "said", 1)
        with transaction.atomic():
            publish("open/b", "said", 2)
        raise RollBack
    assert sweep() == 0
    assert not PendingEvent.objects.exists()
    assert (told(), told("open/b")) == ([], [])


class InATestCase(TestCase):
    """A TestCase's transaction never commits."""

    def test_callbacks_are_run_as_of_a_commit(self) -> None:
        ann = User.objects.create_user("ann")
        with self.captureOnCommitCallbacks(execute=True):
            order = Order.objects.create(customer=ann)
            publish(A, "said", 1)
        assert told() == [1]
        assert len(told(f"orders/{order.pk}")) == 1
        with self.captureOnCommitCallbacks(execute=False):
            publish(A, "said", 2)
        assert told() == [1]


# -- autocommit off --------------------------------------------------------------------------------


def test_with_autocommit_off_events_are_told_after_the_projects_own_commit(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {**sqlite_at(tmp_path / "manual.sqlite3"), "OPTIONS": {"timeout": 5}}
    with alias_elsewhere(database) as alias, listed(monkeypatch):
        settings.DJANGO_LIVE = {"DATABASE": alias}
        connections[alias].close()
        connections[alias].settings_dict["AUTOCOMMIT"] = False

        def as_a_process_with_a_loop() -> dict[str, int]:
            async def swept() -> dict[str, int]:
                return await in_thread(store_threads(), sweep_everywhere)

            return asyncio.run(swept())

        publish(A, "said", "gone", using=alias)
        transaction.rollback(using=alias)
        publish(A, "said", 1, using=alias)
        transaction.commit(using=alias)
        assert as_a_process_with_a_loop()[alias] == 1
        assert told() == [1]
        transaction.rollback(using=alias)  # what was read held a transaction open
        publish(A, "said", 2, using=alias)
        transaction.commit(using=alias)
        connections[alias].close()
        call_command("live_sweep", stdout=StringIO())
        assert told() == [1, 2]
        connections[alias].close()


# -- connections that come and go ------------------------------------------------------------------


def cut(server: str, using: str) -> None:
    """Close every connection to this database on the server's side, as its restart would."""
    name = connections[using].settings_dict["NAME"]
    if server == "postgresql":
        import psycopg

        from tests.support.postgres_url import PostgresServer

        with psycopg.connect(PostgresServer.from_environment().url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        return
    from tests.support.mariadb_url import MariadbServer

    with MariadbServer.from_environment().cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
        for (id,) in cursor.fetchall():
            with suppress(Exception):
                cursor.execute(f"KILL {int(id)}")


@pytest.mark.any_database
@pytest.mark.parametrize("checked", [True, False])
def test_persistent_connections_survive_a_restart_of_the_server(
    server: str, checked: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WITH_SERVERS[server]() as alias, listed(monkeypatch):
        for key, value in {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": checked}.items():
            monkeypatch.setitem(connections[alias].settings_dict, key, value)
        settings.DJANGO_LIVE = {"DATABASE": alias}
        publish(A, "said", 1, using=alias)

        async def read() -> int:
            return (await get_log().aheads([as_topic(A)]))[as_topic(A).key].last

        async def faults() -> int:
            """How often it fails until all threads work again."""
            failed = 0
            for _ in range(30):
                try:
                    await asyncio.gather(*(read() for _ in range(4)))
                except DatabaseError:
                    failed += 1
                else:
                    return failed
            raise AssertionError("it never works again")

        assert asyncio.run(faults()) == 0
        cut(server, alias)
        # Without health checks Django hands out a broken connection once in each thread.
        assert (asyncio.run(faults()) > 0) is not checked
        connections[alias].close()
        publish(A, "said", 2, using=alias)
        assert asyncio.run(read()) == 2


@pytest.mark.any_database
def test_connections_that_are_kept_for_streams_survive_a_restart_unnoticed(
    server: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WITH_SERVERS[server]() as alias, listed(monkeypatch):
        settings.DJANGO_LIVE = {"DATABASE": alias}
        publish(A, "said", 1, using=alias)

        def look() -> tuple[int, Any]:
            return get_log().heads([as_topic(A)])[as_topic(A).key].last, connections[
                alias
            ].connection

        with store_threads().keeping_connections():
            last, kept = store_threads().submit(look).result(30)
            assert store_threads().submit(look).result(30) == (last, kept) == (1, kept)
            cut(server, alias)
            last, other = store_threads().submit(look).result(30)
            assert last == 1
            assert other is not kept


@pytest.mark.any_database
def test_a_connection_that_breaks_after_the_commit_costs_the_caller_nothing(
    server: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with WITH_SERVERS[server]() as alias:
        settings.DJANGO_LIVE = {"DATABASE": alias}
        with caplog.at_level(logging.ERROR), transaction.atomic(using=alias):
            transaction.on_commit(lambda: cut(server, alias), using=alias)
            publish(A, "said", 1, using=alias)
        assert caplog.records, "the fault is logged"
        connections[alias].close()
        assert PendingEvent.objects.using(alias).count() == 1
        assert sweep(alias) == 1
        assert told() == [1]


@pytest.mark.any_database
@requires("postgresql")
def test_a_pool_of_connections_is_given_back_what_was_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        postgresql_elsewhere(pool={"min_size": 1, "max_size": 3, "timeout": 10}) as alias,
        listed(monkeypatch),
    ):
        settings.DJANGO_LIVE = {"DATABASE": alias}
        wrapper: Any = connections[alias]

        def work() -> None:
            with transaction.atomic(using=alias):
                publish(A, "said", 1, using=alias)
            publish(A, "said", 2, using=alias)
            sweep(alias)

        async def everybody() -> None:
            # More than the pool has: each gets one in its turn.
            await asyncio.gather(*(in_thread(store_threads(), work) for _ in range(12)))

        try:
            connections[alias].close()
            # Also while streams are served, when others are kept.
            with store_threads().keeping_connections():
                asyncio.run(everybody())
                assert sorted(told()) == [1] * 12 + [2] * 12
                connections[alias].close()
                assert errands.flush(30)  # rows that one found locked were left to the background
                stats = wrapper.pool.get_stats()
                assert stats["pool_available"] == stats["pool_size"] <= 3
        finally:
            wrapper.close_pool()


def test_a_database_that_is_away_is_an_error_of_the_caller_only_before_its_commit() -> None:
    def away(execute: Any, sql: str, *rest: Any) -> Any:
        if "django_live_pendingevent" in sql:
            raise OperationalError("it is away")
        return execute(sql, *rest)

    with (
        connections["default"].execute_wrapper(away),
        pytest.raises(OperationalError),
        transaction.atomic(),
    ):
        publish(A, "said", 1)
    assert told() == []
