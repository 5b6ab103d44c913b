"""`live_sweep` and `live_trim`, and which databases are swept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, router, transaction

from django_live import publish
from django_live.core.events import Draft
from django_live.core.log import get_log
from django_live.core.outbox import Entry, get_outbox
from django_live.core.state import get_state
from django_live.core.sweeping import errands, sweep_everywhere
from django_live.core.topics import as_topic
from django_live.stores import clock
from django_live.stores.outbox import DatabaseOutbox
from tests.stores import aliases
from tests.stores.aliases import ELSEWHERE, alias_elsewhere, sqlite_at

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A second alias, which is listed, with the tables."""

    def listed(self: aliases._WithOneMore) -> Iterator[str]:
        return iter([*dict.keys(self), ELSEWHERE])

    with (
        alias_elsewhere(sqlite_at(tmp_path / "elsewhere.sqlite3")) as alias,
        monkeypatch.context() as patch,
    ):
        patch.setattr(aliases._WithOneMore, "__iter__", listed)
        patch.setattr(get_outbox(), "_has_table", {})
        patch.setattr(get_outbox(), "_look_again", {})
        yield alias


def leave_behind(name: str, using: str = "default") -> None:
    """What a process leaves that is killed right after its commit."""
    with transaction.atomic(using=using):
        get_outbox().add([Entry(as_topic(name), Draft(type="said", data="1"))], using)


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def kept(name: str) -> int:
    return len(get_log().read(as_topic(name), 0, 10_000, 10**8).events)


def test_what_was_left_behind_is_sent() -> None:
    for name in ("open/a", "open/a", "open/b"):
        leave_behind(name)
    assert run("live_sweep") == "default: 3 events sent\n"
    assert (kept("open/a"), kept("open/b")) == (2, 1)
    assert run("live_sweep") == "default: 0 events sent\n"


def test_every_database_with_an_outbox_is_swept(elsewhere: str) -> None:
    leave_behind("open/a")
    leave_behind("open/b", using=elsewhere)
    report = json.loads(run("live_sweep", "--format", "json"))
    assert report == {"sent": {"default": 1, "elsewhere": 1}, "failed": {}}
    assert (kept("open/a"), kept("open/b")) == (1, 1)


def test_one_database_may_be_named(elsewhere: str) -> None:
    leave_behind("open/a")
    leave_behind("open/b", using=elsewhere)
    assert run("live_sweep", "--database", elsewhere) == "elsewhere: 1 events sent\n"
    assert (kept("open/a"), kept("open/b")) == (0, 1)


def test_a_database_that_does_not_exist_is_a_wrong_argument() -> None:
    with pytest.raises(CommandError, match="'nowhere'") as caught:
        run("live_sweep", "--database", "nowhere")
    assert caught.value.returncode == 2


def test_a_database_that_fails_does_not_keep_the_others_from_being_swept(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = DatabaseOutbox.sweep

    def fail_on_default(self: DatabaseOutbox, using: str) -> Any:
        if using == "default":
            raise OperationalError("it is away")
        return right(self, using)

    leave_behind("open/b", using=elsewhere)
    monkeypatch.setattr(DatabaseOutbox, "sweep", fail_on_default)
    out = StringIO()
    with pytest.raises(CommandError, match=r"default \(it is away\)") as caught:
        call_command("live_sweep", format="json", stdout=out)
    assert caught.value.returncode == 1
    assert json.loads(out.getvalue()) == {
        "sent": {"elsewhere": 1},
        "failed": {"default": "it is away"},
    }
    leave_behind("open/c", using=elsewhere)
    with pytest.raises(OperationalError):
        sweep_everywhere()
    assert kept("open/c") == 1


def test_an_alias_without_the_table_is_looked_at_once(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("migrate", "django_live", "zero", database=elsewhere, verbosity=0)
    assert get_outbox().aliases() == ["default"]
    call_command("migrate", "django_live", database=elsewhere, verbosity=0)
    assert get_outbox().aliases() == ["default"]
    leave_behind("open/a", using=elsewhere)
    assert get_outbox().aliases() == ["default", elsewhere]
    looks: list[Any] = []
    monkeypatch.setattr(connections[elsewhere].introspection, "table_names", looks.append)
    assert get_outbox().aliases() == ["default", elsewhere]
    assert looks == []


def test_an_alias_where_the_routers_do_not_allow_it_is_left_alone(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "allow_migrate_model", lambda alias, _: alias == elsewhere)
    assert get_outbox().aliases() == [elsewhere]


def test_an_alias_that_is_away_is_no_error(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OperationalError("it is away")

    monkeypatch.setattr(connections[elsewhere].introspection, "table_names", fail)
    assert sweep_everywhere() == {"default": 0}


def test_events_beyond_the_history_are_removed() -> None:
    with transaction.atomic():
        for n in range(1300):
            publish("small/a", "said", n)
    assert errands.flush(30)  # so many are numbered in the background
    before = kept("small/a")
    report = json.loads(run("live_trim", "--format", "json"))
    assert report["removed"] == before - kept("small/a")
    assert kept("small/a") == 10
    assert run("live_trim") == "0 events removed, 0 rows of the shared state purged\n"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def at_a_terminal(*command: str, **options: Any) -> str:
    out = Terminal()
    call_command(*command, stdout=out, **options)
    return out.getvalue()


def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What bars are told: their titles and totals, and then how much is done."""
    pytest.importorskip("rich")
    from rich.progress import Progress

    told: list[Any] = []
    add, update = Progress.add_task, Progress.update

    def added(self: Any, title: str, total: Any = None, **kwargs: Any) -> Any:
        told.append((title, total))
        return add(self, title, total=total, **kwargs)

    def updated(self: Any, task: Any, *, completed: Any = None, **kwargs: Any) -> None:
        told.append(completed)
        update(self, task, completed=completed, **kwargs)

    monkeypatch.setattr(Progress, "add_task", added)
    monkeypatch.setattr(Progress, "update", updated)
    return told


def test_at_a_terminal_a_bar_tells_how_far_a_sweep_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = bars(monkeypatch)
    for name in ("open/a", "open/b", "open/a"):
        leave_behind(name)
    assert at_a_terminal("live_sweep").endswith("default: 3 events sent\n")
    assert told[0] == ("Sending from default", 3)
    assert told[1:] == sorted(told[1:])
    assert told[-1] == 3


def test_a_bar_tells_how_far_a_trim_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = bars(monkeypatch)
    for name in ("small/a", "small/b"):
        get_log().append(as_topic(name), [Draft("said", str(n)) for n in range(600)])
    out = at_a_terminal("live_trim")
    removed = int(out.splitlines()[-1].rpartition("\r")[2].split("K")[-1].split()[0])
    assert told[0] == ("Removing events", None)
    assert len(told) > 2, "more than once"
    assert told[-1] == removed


def test_a_bar_tells_how_far_forgetting_is(
    monkeypatch: pytest.MonkeyPatch, django_user_model: Any
) -> None:
    told = bars(monkeypatch)
    user = django_user_model.objects.create_user("ada")
    for name in ("open/a", "open/b"):
        get_log().append(as_topic(name), [Draft("said", "1")])
    monkeypatch.setattr(type(as_topic("open/a")), "is_asked_to_forget", lambda self: True)
    at_a_terminal("live_forget", user=str(user.pk), dry_run=True)
    assert told == [("Looking through topics", None), 1, 2]


@pytest.mark.parametrize("command", ["live_sweep", "live_trim"])
def test_programs_and_files_get_no_bar(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = bars(monkeypatch)
    leave_behind("open/a")
    assert "\x1b" not in run(command)
    assert json.loads(at_a_terminal(command, format="json"))
    assert told == []


def test_what_expired_in_the_shared_state_is_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    state, now = get_state(), clock.now()
    state.set("presence", {"ada": "1"}, ttl=1)
    monkeypatch.setattr(clock, "instead_of_the_servers", lambda: now + 86_400 + 3)
    assert json.loads(run("live_trim", "--format", "json"))["purged"] == 2  # and its map


def test_a_store_that_does_not_let_us_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> int:
        raise OperationalError("it is away")

    monkeypatch.setattr(get_log(), "trim", fail)
    with pytest.raises(CommandError, match="it is away") as caught:
        run("live_trim")
    assert caught.value.returncode == 1
