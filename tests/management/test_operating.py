"""The commands of those who operate a site: connections, topics, tail, broadcast."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from django_live import apublish, publish
from django_live.core import survey
from django_live.core.state import get_state
from django_live.core.subscribing import Subscribing
from django_live.management.console import Console, ago, printable
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def process(transactional_db: None) -> Iterator[Serving]:  # noqa: ARG001 - its threads see it
    with serving() as one:
        yield one


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna")


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def run_json(*command: str) -> Any:
    return json.loads(run(*command, "--format", "json"))


def code_of(*command: str) -> int:
    with pytest.raises(CommandError) as raised:
        run(*command)
    return raised.value.returncode


def a_dead_process() -> None:
    told = '{"host": "web9", "pid": 7, "started": 1.0, "version": "0", "release": ""}'
    get_state().set(survey.PROCESSES, {"web9 7 beef": told}, ttl=30)


# -- connections -----------------------------------------------------------------------------------


def test_connections_are_listed_with_names_and_filtered(process: Serving, anna: User) -> None:
    process.connect("open/a", "open/b", user=anna)
    process.connect("open/a", transport="websocket", address="192.0.2.9")
    text = run("live_connections")
    assert "anna" in text
    assert "open/a open/b" in text
    assert text.splitlines()[-1] == "2 connections, 2 match"
    told = run_json("live_connections", "--user", "anna")
    assert (told["total"], told["matching"], told["missing"]) == (2, 1, [])
    (row,) = told["connections"]
    assert (row["user"], row["topics"]) == (str(anna.pk), ["open/a", "open/b"])
    assert row["agent"] == "a <browser>"
    for arguments, count in (
        (["--topic", "open/a"], 2),
        (["--topic", "open/b"], 1),
        (["--transport", "websocket"], 1),
        (["--address", "192.0.2.9"], 1),
        (["--search", "OPEN/B"], 1),
    ):
        assert len(run_json("live_connections", *arguments)["connections"]) == count, arguments
    assert "1 shown" in run("live_connections", "--limit", "1")


def test_every_connection_is_listed_when_there_are_more_than_a_page(
    process: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.management.commands.live_connections.PAGE", 3)
    ids = {process.connect("open/a").id for _ in range(8)}
    told = run_json("live_connections", "--limit", "0")
    assert {row["id"] for row in told["connections"]} == ids
    assert len(told["connections"]) == 8


def test_a_users_connections_are_ended_and_others_stay(process: Serving, anna: User) -> None:
    hers = [process.connect("open/a", user=anna) for _ in range(2)]
    his = process.connect("open/a")
    told = run_json("live_connections", "--disconnect", "--user", str(anna.pk))
    assert {*told["disconnected"]} == {connection.id for connection in hers}
    process.wait_for(lambda: all(connection.closed for connection in hers))
    assert {connection.ending for connection in hers} == {"disconnected"}
    assert not his.closed


def test_wrong_arguments_of_connections(process: Serving) -> None:
    kept = process.connect("open/a")
    assert code_of("live_connections", "--user", "nobody") == 2
    assert code_of("live_connections", "--limit", "-1") == 2
    for seconds in ("0", "-1", "nan", "inf", "1e300"):
        assert code_of("live_connections", "--watch", seconds) == 2, seconds
    assert code_of("live_connections", "--disconnect") == 2, "everybody has to be said"
    assert not kept.closed


def test_a_process_that_does_not_answer_is_named_and_the_rest_is_shown(process: Serving) -> None:
    process.connect("open/a")
    a_dead_process()
    out = StringIO()
    with pytest.raises(CommandError, match="web9") as raised:
        call_command("live_connections", stdout=out)
    assert raised.value.returncode == 3
    assert "open/a" in out.getvalue()
    assert code_of("live_topics") == 3


def test_watching_shows_it_again_and_again(
    process: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.connect("open/a")
    sleeps: list[float] = []
    sleep = time.sleep

    def slept(seconds: float) -> None:
        if seconds != 3.5:  # the survey's own pauses
            sleep(seconds)
            return
        sleeps.append(seconds)
        if len(sleeps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("django_live.management.commands.live_connections.time.sleep", slept)
    assert run("live_connections", "--watch", "3.5").count("1 connections, 1 match") == 2


# -- topics ----------------------------------------------------------------------------------------


def test_topics_with_their_heads(process: Serving) -> None:
    for _ in range(2):
        process.connect("open/a")
    process.connect("ephemeral/x")
    publish("open/a", "said", 1)
    told = run_json("live_topics")
    by_name = {row["name"]: row for row in told["topics"]}
    assert by_name["open/a"]["subscribers"] == 2
    assert (by_name["open/a"]["last"], by_name["open/a"]["kept"]) == (1, 1)
    assert by_name["ephemeral/x"]["last"] is None
    assert not any(name.startswith("django_live/") for name in by_name)
    assert run("live_topics", "--search", "eph").splitlines()[-1] == "1 topics"
    assert code_of("live_topics", "--limit", "0") == 2


def test_declared_patterns_need_no_process() -> None:
    declared = {row["pattern"]: row for row in run_json("live_topics", "--declared")["declared"]}
    assert declared["open/<slug:slug>"]["overflow"] == "replay"
    assert declared["ephemeral/<slug:slug>"]["history"] == "none"
    assert "everyone" in declared
    assert "orders/<int:pk>" in run("live_topics", "--declared", "--search", "orders/")


# -- tail ------------------------------------------------------------------------------------------


def test_the_last_events_of_a_topic() -> None:
    for number in range(5):
        publish("open/a", "said", {"n": number})
    lines = run("live_tail", "open/a", "--no-follow", "--last", "2").splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ['{"n":3}', '{"n":4}']
    text = run("live_tail", "open/a", "--no-follow", "--format", "json")
    told = [json.loads(line) for line in text.splitlines()]
    assert [(one["offset"], one["data"]["n"]) for one in told] == [(n + 1, n) for n in range(5)]
    assert run("live_tail", "open/a", "--no-follow", "--last", "0") == ""


def test_a_topic_is_followed_without_a_gap_between_what_was_and_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        publish("open/a", "said", number)
    out = StringIO()
    opened = Subscribing.open

    async def publish_first(self: Any, *args: Any) -> None:
        await apublish("open/a", "said", 3)  # after the last events were shown, before it listens
        await opened(self, *args)
        await apublish("open/a", "said", 4)

    def stop_at_four(text: str) -> int:
        written = StringIO.write(out, text)
        if out.getvalue().count("\n") >= 4:
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(Subscribing, "open", publish_first)
    monkeypatch.setattr(out, "write", stop_at_four)
    call_command("live_tail", "open/a", "--last", "2", "--format", "json", stdout=out)
    numbers = [json.loads(line)["data"] for line in out.getvalue().splitlines()]
    assert numbers == [1, 2, 3, 4]


def test_what_cannot_be_followed_is_said() -> None:
    assert code_of("live_tail", "nothing/declares/this") == 2
    assert code_of("live_tail", "open/a", "--last", "-1") == 2
    assert code_of("live_tail", "ephemeral/x") == 2
    assert code_of("live_tail", "ephemeral/x", "--no-follow") == 2


# -- broadcast -------------------------------------------------------------------------------------


def heard(connection: Any) -> list[Any]:
    lines = connection.sink.received.decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and "text" in line]


def test_a_message_reaches_a_user_and_everyone(process: Serving, anna: User) -> None:
    hers = process.connect("everyone", f"user/{anna.pk}", user=anna)
    his = process.connect("everyone")
    told = run_json("live_broadcast", "--user", "anna", "--message", "Hello anna", "--dry-run")
    assert told == {"topics": 1, "connections": 1, "users": 1, "missing": 0}
    assert "heard by 2 connections of 1 users" in run(
        "live_broadcast", "--all", "--message", "x", "--dry-run"
    )
    assert heard(hers) == heard(his) == []
    run("live_broadcast", "--user", "anna", "--message", "Hello anna", "--level", "success")
    assert run("live_broadcast", "--all", "--message", "Hello") == "Published to 1 topic\n"
    process.wait_for(lambda: len(heard(hers)) == 2 and len(heard(his)) == 1)
    assert heard(hers)[0] == {"text": "Hello anna", "level": "success"}
    assert heard(his)[0]["text"] == "Hello"


def test_data_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO('{"n": 7}'))
    assert run_json("live_broadcast", "open/a", "--type", "said", "--data", "-") == {"topics": 1}
    (line,) = run("live_tail", "open/a", "--no-follow", "--format", "json").splitlines()
    assert json.loads(line)["data"] == {"n": 7}


@pytest.mark.parametrize("given", [b"\xff\xfe", b"{", b""])
def test_data_from_stdin_that_is_no_json(given: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(given), encoding="utf-8"))
    assert code_of("live_broadcast", "open/a", "--type", "said", "--data", "-") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["open/a", "--data", "{}"],
        ["open/a", "--data", "{", "--type", "said"],
        ["open/a", "--data", "{}", "--type", "stream-open"],
        ["open/a", "--data", "{}", "--type", "not a type"],
        ["nothing/declares/this", "--message", "x"],
        ["--user", "nobody", "--message", "x"],
        ["--group", "nobody", "--message", "x"],
        ["--permission", "nobody", "--message", "x"],
        ["", "--message", "x"],
        ["--user", "", "--message", "x"],
        ["--all", "--type", "x", "--data", "[" * 100_000],
        ["--all", "--message", " "],
        ["--all", "--message", "x", "--url", "//evil.test"],
        ["--all", "--message", "x", "--type", "said"],
    ],
    ids=lambda given: " ".join(given)[:60],
)
def test_what_cannot_be_broadcast(arguments: list[str]) -> None:
    assert code_of("live_broadcast", *arguments) == 2


# -- how they speak --------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_is_a_table_of_richs_and_elsewhere_plain_lines(
    process: Serving, anna: User
) -> None:
    process.connect("open/a", user=anna)
    out = Terminal()
    call_command("live_connections", stdout=out, force_color=True)
    assert "\x1b[" in out.getvalue()
    assert "\x1b[" not in run("live_connections")
    plain = Terminal()
    call_command("live_connections", stdout=plain, no_color=True, format="json")
    assert json.loads(plain.getvalue())["total"] == 1


def test_what_visitors_choose_moves_no_cursor() -> None:
    assert printable("evil\x1b[2J\nname") == "evil?[2J?name"
    assert printable(None) == "–"
    assert (ago(0, 90), ago(0, 7200), ago(0, 200_000), ago(5, 0)) == (
        "90 s",
        "2 h",
        "2 d",
        "0 s",
    )
    assert Console.__doc__
