"""The reference tables say what the code says."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, load_command_class

from django_live import History, Topic, models, publish, testing
from django_live.conf import LiveSettings
from django_live.core import topics
from django_live.core.counting import METRICS
from django_live.core.events import RESERVED_TYPES
from django_live.core.records import RECORDS
from django_live.transports.conversation import CLOSE_CODES
from django_live.transports.requests import MESSAGES
from tests.docs.markdown import ROOT, code, table

PACKAGE = ROOT / "django_live"
REFERENCE = ROOT / "docs/reference"
PROTOCOL = REFERENCE / "protocol.md"
CLIENT = ROOT / "client/src"


def source(path: str) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text())


def literal_arguments(tree: ast.AST, names: set[str], position: int) -> set[str]:
    """The literal strings that calls of these functions and methods get there."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > position:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            value = node.args[position]
            if called in names and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.add(value.value)
    return found


def returned_strings(tree: ast.AST, function: str) -> set[str]:
    (definition,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    returned = (node.value for node in ast.walk(definition) if isinstance(node, ast.Return))
    return {
        node.value
        for value in returned
        if value is not None
        for node in _branches(value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _branches(value: ast.expr) -> Iterator[ast.expr]:
    """The values that an expression may have: both sides of ``a if test else b``."""
    if isinstance(value, ast.IfExp):
        yield from _branches(value.body)
        yield from _branches(value.orelse)
    else:
        yield value


def test_settings() -> None:
    documented = {}
    for key, kind, default, meaning in table(REFERENCE / "settings.md", "Settings"):
        assert meaning, key
        documented[code(key)[0]] = (" | ".join(code(kind)), ast.literal_eval(code(default)[0]))
    assert documented == {
        field.name: (str(field.type), field.default) for field in dataclasses.fields(LiveSettings)
    }


def test_checks() -> None:
    rows = table(REFERENCE / "checks.md", "System checks")
    documented = {code(row[0])[0] for row in rows}
    assert len(documented) == len(rows), "a number belongs to one check"
    places = [*(PACKAGE / "checks").glob("*.py"), *(PACKAGE / "integrations").rglob("*.py")]
    sources = "".join(path.read_text() for path in places)
    used = set(re.findall(r'id="(django_live\.\w+)"', sources))
    assert documented == used


def test_refusals_and_stream_errors() -> None:
    trees = {
        str(path.relative_to(PACKAGE)): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }
    refusals = set().union(*(literal_arguments(tree, {"Refusal"}, 0) for tree in trees.values()))
    errors = set().union(*(literal_arguments(tree, {"error", "end"}, 1) for tree in trees.values()))
    of_messages = {"Refusal", "refusal", "BadAction"}
    inbound = {"inbound", "actions", "conversation", "uplink", "websocket", "handshake"}
    said = set().union(
        *(literal_arguments(trees[f"transports/{name}.py"], of_messages, 0) for name in inbound)
    )
    # An expression, not an argument of its own.
    said |= {"timeout", "busy", "rejected"}
    assert refusals | said <= MESSAGES.keys() | {"rejected"}
    answers = {
        name for row in table(PROTOCOL, "Answers that are not a stream") for name in code(row[1])
    }
    frames = {code(row[0])[0] for row in table(PROTOCOL, "Codes of a stream-error")}
    on_sockets = {code(row[0])[0] for row in table(PROTOCOL, "Codes of a WebSocket")}
    uplink = {name for row in table(PROTOCOL, "The uplink") for name in code(row[1])}
    uplink -= {"Retry-After"}
    whole = {"no-topics", "malformed-request", "cross-site", "method-not-allowed", "no-streaming"}
    of_openings = {"not-authenticated", "too-many-connections", "at-capacity"}
    whole |= {"upgrade-required"} | of_openings
    handshake = {"unknown-version", "refused"}
    messages = said - whole - handshake - {"csrf-failed", "malformed-topic"}
    assert answers == refusals - messages - handshake - {"csrf-failed"} | {
        "forbidden",
        "unavailable",
        "signed-out",
    }
    assert frames == (answers - whole) | errors
    assert on_sockets == messages | handshake | of_openings
    assert uplink == messages | {
        "malformed-topic",
        "malformed-request",
        "cross-site",
        "csrf-failed",
        "not-authenticated",
        "method-not-allowed",
    }


def test_statuses() -> None:
    text = (PACKAGE / "transports/requests.py").read_text()
    text += (PACKAGE / "transports/sse.py").read_text()
    text += (PACKAGE / "transports/polling.py").read_text()
    text += (PACKAGE / "transports/websocket.py").read_text()
    used = {int(status) for status in re.findall(r"Refused\((\d{3})", text)} | {403, 503}
    rows = table(PROTOCOL, "Answers that are not a stream")
    assert {int(row[0]) for row in rows} == used


def test_reasons_of_a_reset() -> None:
    tree = source("core/subscribing.py")
    used = literal_arguments(tree, {"reset", "_snapshot_first"}, 1)
    used |= returned_strings(tree, "_reason_for_reset")
    assert {code(row[0])[0] for row in table(PROTOCOL, "Reasons of a reset")} == used
    told = re.search(
        r"/\*\* (`trimmed`.*?) \*/\n\s*readonly reason", (CLIENT / "api.ts").read_text()
    )
    assert told
    assert set(code(told[1])) == used


def test_names_of_frames() -> None:
    frames = (PACKAGE / "transports/frames.py").read_text()
    written = set(re.findall(r"event: ([a-z-]+)\\n", frames))
    documented = {name for row in table(PROTOCOL, "The stream") for name in code(row[0])}
    assert documented == written
    frames = (PACKAGE / "transports/socket_frames.py").read_text()
    on_sockets = {code(row[0])[0] for row in table(PROTOCOL, "From the server")}
    written_there = set(re.findall(r'"event":"([a-z-]+)"', frames))
    written_there |= literal_arguments(source("transports/socket_frames.py"), {"_head"}, 0)
    assert written_there | written == documented | on_sockets
    for name in RESERVED_TYPES:
        assert f"`{name}`" in PROTOCOL.read_text()


def test_attributes_of_a_topic() -> None:
    documented = {}
    for name, default, _ in table(REFERENCE / "topics.md", "Attributes"):
        documented[code(name)[0]] = ast.literal_eval(code(default)[0]) if default else None
    declared = {
        name: getattr(Topic, name, None)
        for name, kind in Topic.__annotations__.items()
        if str(kind).startswith("ClassVar") and not name.startswith("_")
    }
    assert documented == declared
    assert f"events={History().events}" in (REFERENCE / "topics.md").read_text()


def test_methods_of_a_topic() -> None:
    rows = table(REFERENCE / "topics.md", "Permissions") + table(REFERENCE / "topics.md", "Hooks")
    documented = {code(row[0])[0].partition("(")[0] for row in rows}
    own = {name for name, value in vars(Topic).items() if callable(value) and name[0] != "_"}
    assert documented | {"within", "builds"} == own  # these are for the registry and the tags
    assert "topic.within(" in (REFERENCE / "topics.md").read_text()


def test_attributes_of_a_message() -> None:
    documented = {code(row[0])[0] for row in table(REFERENCE / "topics.md", "Messages")}
    assert documented == {field.name for field in dataclasses.fields(topics.Message)}


def test_close_codes() -> None:
    documented = {int(row[0]) for row in table(PROTOCOL, "Close codes")}
    assert documented == set(CLOSE_CODES.values())


def test_actions() -> None:
    documented = {code(row[0])[0] for row in table(PROTOCOL, "From the client")}
    read = re.findall(r'action == "(\w+)"', (PACKAGE / "transports/actions.py").read_text())
    assert documented == set(read)


def test_attributes_of_a_viewer() -> None:
    documented = {code(row[0])[0] for row in table(REFERENCE / "topics.md", "`Viewer`")}
    assert documented == {*topics.Viewer.__slots__, "user"} - {"_user", "source"}


def test_overflow_rules() -> None:
    documented = [
        (code(rule)[0], history.startswith("yes"), "default" in history)
        for rule, history, _ in table(REFERENCE / "topics.md", "Overflow")
    ]
    with_history = [(rule, True, place == 0) for place, rule in enumerate(topics.WITH_HISTORY)]
    without = [(rule, False, place == 0) for place, rule in enumerate(topics.WITHOUT_HISTORY)]
    assert sorted(documented) == sorted(with_history + without)


def test_arguments_of_publish() -> None:
    documented = {
        code(name)[0]: ast.literal_eval(code(default)[0])
        for name, default, _ in table(REFERENCE / "topics.md", "Publishing")
    }
    assert documented == publish.__kwdefaults__


def test_the_clients_words() -> None:
    api = (CLIENT / "api.ts").read_text()
    page = (REFERENCE / "client.md").read_text()
    names = re.findall(r"^  (?:readonly )?(\w+)\??[:(]", api, re.MULTILINE)
    assert len(names) > 20
    for name in {*names} - {"handle"}:  # a trick of TypeScript's
        assert re.search(rf"\b{name}\b", page), f"client.md does not speak of {name}"
    statuses = re.search(r"export type Status = (.*);", api)
    assert statuses
    for status in re.findall(r'"(\w+)"', statuses[1]):
        assert f"`{status}`" in page
    for event in re.findall(r'"(live:\w+)"', api):
        assert f"`{event}`" in page


def test_paths_that_the_architecture_names() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"(?<![\w/.])((?:[a-z_]+/)+\w+\.(?:py|ts))", page))
    assert len(named) > 15
    for name in named:
        places = (PACKAGE / name, ROOT / name)
        assert any(place.is_file() for place in places), name


def test_metrics_and_lines_of_the_log() -> None:
    page = REFERENCE / "metrics.md"
    suffix = {"counter": "_total", "gauge": "", "histogram": "_seconds"}
    documented = [
        (code(name)[0], kind, (code(label) or [""])[0], meaning)
        for name, kind, label, meaning in table(page, "For Prometheus")
    ]
    assert documented == [
        (f"django_live_{m.name}{suffix[m.kind]}", m.kind, m.label, m.help) for m in METRICS
    ]
    lines = {code(name)[0]: meaning for name, meaning in table(page, "Lines in the log")}
    assert lines == RECORDS


def test_commands_and_their_options() -> None:
    page = REFERENCE / "commands.md"
    commands = {path.stem for path in (PACKAGE / "management/commands").glob("live_*.py")}
    assert {code(row[0])[0] for row in table(page, "Commands")} == commands
    documented: dict[str, set[str]] = {name: set() for name in commands}
    for name in ("live_connections", "live_topics", "live_tail", "live_broadcast", "live_doctor"):
        rows = table(page, f"Options of `{name}`")
        documented[name] = {code(row[0])[0].split()[0] for row in rows}
    for option, of, _ in table(page, "Options of the others"):
        documented[code(of)[0]].add(code(option)[0].split()[0])
    for name in commands:
        parser = load_command_class("django_live", name).create_parser("manage.py", name)
        common = BaseCommand().create_parser("manage.py", name)
        options = _options(parser) - _options(common) - {"--format"}
        assert documented[name] == options, name
        assert ("--format" in _options(parser)) == (name != "live_listen"), name
        # As `help` of a Django command is one paragraph, it says how it ends.
        assert "exit code" in (parser.description or "") or name in ("live_listen", "live_forget")


def _options(parser: Any) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def test_the_test_kit() -> None:
    page = (REFERENCE / "testing.md").read_text()
    for name in testing.__all__:
        assert f"`{name}" in page, name
    rows = table(REFERENCE / "testing.md", "Fixtures for pytest")
    documented = {name for row in rows for name in code(row[0])}
    plugin = (PACKAGE / "pytest_plugin.py").read_text()
    assert documented == set(re.findall(r"^def (live_\w+)", plugin, re.MULTILINE))
    fields = {
        code(row[0])[0].partition("=")[0]
        for row in table(REFERENCE / "testing.md", "`faulty_layer(…)` and `faulty_store(…)`")
    }
    assert fields == {f.name for f in dataclasses.fields(testing.Faults)} - {"count", "random"}


def test_permissions_of_the_admin() -> None:
    rows = table(ROOT / "docs/howto/operate.md", "In the admin")
    documented = {name for row in rows for name in code(row[2])}
    own = {
        codename
        for model in (models.Connection, models.LiveTopic, models.Process, models.Broadcast)
        for codename, _ in model._meta.permissions
    }
    assert documented == own | {"view_storedevent"}


@pytest.mark.parametrize(
    ("name", "headings", "check"),
    [
        ("settings.md", ["Settings"], test_settings),
        ("checks.md", ["System checks"], test_checks),
        ("metrics.md", ["For Prometheus", "Lines in the log"], test_metrics_and_lines_of_the_log),
        (
            "commands.md",
            ["Commands", "Options of `live_topics`", "Options of the others"],
            test_commands_and_their_options,
        ),
        (
            "testing.md",
            ["Fixtures for pytest", "`faulty_layer(…)` and `faulty_store(…)`"],
            test_the_test_kit,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_that_is_missing_is_noticed(
    name: str, headings: list[str], check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the tests above."""
    page = REFERENCE / name
    whole, read = page.read_text(), Path.read_text
    firsts = [row[0] for heading in headings for row in table(page, heading)]
    assert firsts
    for first in firsts:
        (line,) = re.findall(rf"^\| {re.escape(first)} \|.*\n", whole, re.MULTILINE)[:1]
        without = whole.replace(line, "", 1)
        with monkeypatch.context() as patch:
            patch.setattr(
                Path,
                "read_text",
                lambda self, *args, text=without: text if self == page else read(self, *args),
            )
            with pytest.raises(AssertionError):
                check()


def test_a_helper_that_is_not_described_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "__all__", [*testing.__all__, "new_helper"])
    with pytest.raises(AssertionError, match="new_helper"):
        test_the_test_kit()
