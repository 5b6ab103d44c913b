"""Answers over real servers: read by clients that know nothing of us, and by ours, while workers and
the web process are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers.test_clients_of_others import Script, scripts
from tests.servers.test_everywhere import Site, site
from tests.servers.test_streams import USERS, open_stream
from tests.support import prepared
from tests.support.http import Visitor
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT
from tests.support.sse_reader import SSEReader

__all__ = ["scripts"]

PATIENCE = 30
LEASE = 2.0
RESERVE = """
from django.contrib.auth.models import User
from django_live.features.token_streams import reserve
anna = User.objects.get(username="anna")
print(*[reserve(f"Question {n}", owner=anna).key for n in range(6)])
"""
WRITER = """
import sys, time, django
django.setup()
from django_live.features.token_streams import TokenStream
with TokenStream(id=sys.argv[1]) as stream:
    for n in range(int(sys.argv[2])):
        stream.text(f"{n} ")
        time.sleep(0.02)
        if n == int(sys.argv[3]):
            sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings_reporting"}
    live = {"STORE": "redis", "JOB_LEASE": LEASE, "HEAD_CHECK": 3600, "SWEEP": 3600}
    with site("redis", tmp_path_factory.mktemp("site"), **settings) as made:
        live["REDIS_URL"] = made.redis.url
        # The server has its lease, too: whoever looks on asks with the writer's.
        made.env["LIVE_TEST_DJANGO_LIVE"] = json.dumps(live)
        made.database.python(USERS)
        yield made


@pytest.fixture(scope="module")
def anna(here: Site) -> Visitor:
    visitor = Visitor(here.web.url)
    visitor.log_in("anna", "anna")
    return visitor


@pytest.fixture(scope="module")
def answers(here: Site) -> Iterator[str]:
    """Anna's, which wait: each test takes those that it needs."""
    return iter(here.python(RESERVE).split())


@contextmanager
def writing(
    here: Site, answer: str, words: int, rests_after: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes an answer; after that word it waits for a line."""
    process = prepared.Popen(
        [sys.executable, "-c", WRITER, answer, str(words), str(rests_after)],
        stdin=subprocess.PIPE,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **here.env},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ours(here: Site, visitor: Visitor, answer: str, last_id: str | None = None) -> SSEReader:
    return open_stream(here.web, f"live/answers/{answer}", visitor=visitor, last_id=last_id)


def convention(here: Site, visitor: Visitor, answer: str, name: str) -> SSEReader:
    path = f"/live/answers/{answer}/{name}/"
    return SSEReader(here.web.host, here.web.port, path, visitor.cookie_header)


def lines_of(reader: SSEReader, until: Callable[[Any], bool]) -> list[Any]:
    """The JSON of the frames up to the one that is waited for; ``[DONE]`` as it is."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        frame = reader.wait_for(lambda frame: bool(frame.data), PATIENCE)
        found.append("[DONE]" if frame.data == "[DONE]" else frame.json())
        if until(found[-1]):
            return found
    raise AssertionError(f"it does not come: {found[-3:]}")


def counted(count: int) -> str:
    return "".join(f"{n} " for n in range(count))


class Reading:
    """What our own viewer makes of its frames."""

    def __init__(self) -> None:
        self.text = ""
        self.state = ""
        self.numbers: list[int] = []

    def read(self, reader: SSEReader, until: Callable[[Reading], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until(self):
            assert time.monotonic() < deadline, (self.state, self.text[-80:])
            frame = reader.next_frame(PATIENCE)
            assert frame.event != "stream-reset"
            if frame.event not in ("stream-snapshot", "begin", "text", "end"):
                continue
            data = frame.json()
            if frame.event != "stream-snapshot":
                if self.numbers and data["n"] <= self.numbers[-1]:
                    continue
                self.text += data.get("text", "")
            else:
                self.text = data["text"]
            self.numbers.append(data["n"])
            self.state = data.get("state", "running")


# -- other people's clients ------------------------------------------------------------------------


@requires("npm")
def test_the_ai_package_joins_in_the_middle_and_is_told_everything(
    here: Site, anna: Visitor, answers: Iterator[str], scripts: Path
) -> None:
    answer = next(answers)
    with writing(here, answer, 100, 30) as writer, ours(here, anna, answer) as reader:
        Reading().read(reader, lambda so_far: "20 " in so_far.text)
        address = f"{here.web.url}/live/answers/{answer}/ui/"
        cookie = anna.cookie_header["Cookie"]
        with Script(str(scripts / "ai.mjs"), "resume", address, cookie) as client:
            client.next("message", PATIENCE)
            assert writer.stdin is not None
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            ended = client.next("ended", PATIENCE)["ended"]
            message = [line for line in client.heard if "message" in line][-1]["message"]
        assert message["parts"] == [{"type": "text", "text": counted(100), "state": "done"}]
        assert message["id"] == answer
        assert ended == ["start", "text-start", "text-delta", "text-end", "finish"]
        with Script(str(scripts / "ai.mjs"), "resume", address, cookie) as client:
            assert client.next("nothing", PATIENCE), "it is over"
        with Script(str(scripts / "ai.mjs"), "resume", f"{address}?replay", cookie) as client:
            client.next("ended", PATIENCE)
            again = [line for line in client.heard if "message" in line][-1]["message"]
        assert again["parts"] == message["parts"]


@requires("npm")
def test_the_ai_package_asks_a_view_of_the_site(here: Site, anna: Visitor, scripts: Path) -> None:
    cookie = anna.cookie_header["Cookie"]
    with Script(str(scripts / "ai.mjs"), "send", f"{here.web.url}/chat/", cookie) as client:
        client.next("ended", PATIENCE)
        assert not [line for line in client.heard if "error" in line]
        parts = [line for line in client.heard if "message" in line][-1]["message"]["parts"]
    by_type = {part["type"]: part for part in parts}
    assert by_type["text"]["text"] == "Because it is so."
    assert by_type["reasoning"]["text"] == "Hm."
    assert by_type["tool-search"]["output"] == ["stone"]
    assert by_type["data-sources"]["data"] == ["a"]


@requires("npm")
def test_the_openai_package(here: Site, anna: Visitor, scripts: Path) -> None:
    cookie = anna.cookie_header["Cookie"]
    with Script(str(scripts / "openai.mjs"), f"{here.web.url}/v1", cookie) as client:
        client.next("ended", PATIENCE)
        deltas = [line for line in client.heard if "delta" in line]
    assert "".join(line["delta"].get("content") or "" for line in deltas) == "Because it is so."
    assert deltas[0]["delta"]["role"] == "assistant"
    assert deltas[-1]["finish"] == "stop"
    calls = [line["delta"]["tool_calls"] for line in deltas if "tool_calls" in line["delta"]]
    assert json.loads(calls[0][0]["function"]["arguments"]) == {"q": "mill"}


# -- faults ----------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_ends_its_answer_for_every_viewer_and_no_other(
    here: Site, anna: Visitor, answers: Iterator[str]
) -> None:
    doomed, other = next(answers), next(answers)
    with (
        writing(here, doomed, 100_000) as worker,
        writing(here, other, 100_000),
        ours(here, anna, doomed) as own,
        ours(here, anna, other) as beside,
    ):
        seen, others = Reading(), Reading()
        seen.read(own, lambda so_far: "10 " in so_far.text)
        others.read(beside, lambda so_far: "10 " in so_far.text)
        with (
            convention(here, anna, doomed, "openai") as deltas,
            convention(here, anna, doomed, "ui") as ui,
        ):
            worker.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            seen.read(own, lambda so_far: so_far.state == "lost")
            assert time.monotonic() - killed < LEASE + 10
            spoken = lines_of(deltas, lambda line: line == "[DONE]")
            assert spoken[-2]["error"]["code"] == "lost"
            assert deltas.wait_until_ended(PATIENCE).clean
            spoken = lines_of(ui, lambda line: line == "[DONE]")
            assert spoken[-2]["type"] == "error"
            assert ui.wait_until_ended(PATIENCE).clean
        kept = anna.get(f"/live/answers/{doomed}/").json()
        assert (kept["state"], kept["text"]) == ("lost", seen.text)
        length = len(others.text)
        others.read(beside, lambda so_far: len(so_far.text) > length + 100)
        assert others.state == "running"


def test_a_web_process_that_is_killed_and_viewers_that_leave_change_nothing(
    here: Site, anna: Visitor, answers: Iterator[str]
) -> None:
    answer = next(answers)
    seen = Reading()
    with writing(here, answer, 300):
        ours(here, anna, answer).cut()
        with ours(here, anna, answer) as reader:
            seen.read(reader, lambda so_far: "20 " in so_far.text)
            here.web.kill()
            cursor = reader.last_id
        here.web.start()
        with ours(here, anna, answer, cursor) as reader:
            seen.read(reader, lambda so_far: so_far.state == "done")
    assert seen.text == counted(300)
    assert anna.get(f"/live/answers/{answer}/").json()["text"] == counted(300)


def test_a_viewer_stops_it_and_nobody_else_may_read_it(
    here: Site, anna: Visitor, answers: Iterator[str]
) -> None:
    answer = next(answers)
    bert = Visitor(here.web.url)
    bert.log_in("bert", "bert")
    for path in ("", "openai/", "ui/"):
        assert bert.get(f"/live/answers/{answer}/{path}").status == 404
    with writing(here, answer, 100_000) as worker, ours(here, anna, answer) as reader:
        seen = Reading()
        seen.read(reader, lambda so_far: "10 " in so_far.text)
        anna.get("/live/send/")
        assert anna.post(f"/live/answers/{answer}/").json() == {"stopped": True}
        seen.read(reader, lambda so_far: so_far.state == "stopped")
        assert worker.wait(PATIENCE) == 0, "the writer's with takes it"
    assert anna.get(f"/live/answers/{answer}/").json()["text"] == seen.text
