"""Real input: records, files, machines, metrics; and what is wrong with it."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_live.core.state import get_state
from django_live.exceptions import LiveError
from django_live.features.dashboards import writing
from django_live.features.dashboards.inputs import (
    BYTES_AT_ONCE,
    LINE_BYTES,
    FileTail,
    LiveHandler,
    prometheus_metrics,
    system_metrics,
)
from django_live.features.dashboards.reading import snapshot
from tests.features.dashboards.boards import Log

pytestmark = pytest.mark.any_database


def test_a_file_is_followed_through_rotation_and_cutting(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    tail = FileTail(path)
    assert tail.read() == []
    path.write_bytes(b"one\r\ntwo\nthr")
    assert tail.read() == ["one", "two"]
    with path.open("ab") as file:
        file.write(b"ee \xff\n")
    assert tail.read() == ["three \N{REPLACEMENT CHARACTER}"]
    with path.open("ab") as file:
        file.write(b"last\n")
    path.rename(tmp_path / "app.log.1")
    path.write_text("new\n")
    assert tail.read() == ["last", "new"]
    path.write_text("x\n")
    assert tail.read() == ["x"]
    tail.close()


def test_a_file_without_line_breaks_is_cut_into_lines(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"begin\n")
    tail = FileTail(path)
    assert tail.read() == ["begin"]
    lines = []
    for _ in range(8):
        with path.open("ab") as file:
            file.write(b"x" * 100_000)
        lines += tail.read()
        assert len(tail._rest) <= LINE_BYTES + 1
    with path.open("ab") as file:
        file.write(b"\r\nnext\n")
    *lines, last, following = lines + tail.read()
    assert {len(line) for line in lines} == {LINE_BYTES}
    assert (len(lines) * LINE_BYTES + len(last), following) == (800_000, "next")
    tail.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_line_of_just_the_length_stays_one(tmp_path: Path, end: bytes, at_once: bool) -> None:
    path = tmp_path / "app.log"
    tail = FileTail(path)
    path.write_bytes(b"")
    lines = tail.read()
    for part in [b"x" * LINE_BYTES + end] if at_once else [b"x" * LINE_BYTES, end[:1], end[1:]]:
        with path.open("ab") as file:
            file.write(part)
        lines += tail.read()
    assert lines == ["x" * LINE_BYTES]
    tail.close()


def test_a_rotated_file_is_finished_before_the_new_one_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("")
    tail = FileTail(path)
    assert tail.read() == []
    old = [f"old {number:060}" for number in range(12_000)]
    new = [f"new {number:060}" for number in range(12_000)]
    with path.open("a") as file:
        file.write("\n".join(old))  # its last line was not ended
    path.rename(tmp_path / "app.log.1")
    path.write_text("\n".join(new) + "\n")
    turns: list[list[str]] = []
    while (turn := tail.read()) or not turns:
        turns.append(turn)
    assert [line for turn in turns for line in turn] == old + new
    assert max(sum(len(line) + 1 for line in turn) for turn in turns) <= 2 * BYTES_AT_ONCE + 65
    tail.close()


def test_what_comes_while_there_is_no_file_after_a_rotation_is_read_from_its_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    tail = FileTail(path)
    assert tail.read() == ["one"]
    path.rename(tmp_path / "app.log.1")
    assert tail.read() == []
    with monkeypatch.context() as away:
        away.setattr(FileTail, "_is_another_file", lambda self: True)
        assert tail.read() == [], "it went between two looks"
    new = [f"{number:060}" for number in range(8_000)]
    path.write_text("\n".join(new) + "\n")
    assert tail.read() + tail.read() == new
    tail.close()


def test_log_records_are_shown_and_our_own_are_not(
    settings: Any,
    transactional_db: None,  # noqa: ARG001
    declared: None,  # noqa: ARG001
) -> None:
    settings.DJANGO_LIVE = {"STORE": "memory"}
    get_state.cache_clear()
    logger = logging.getLogger("shop")
    handler = LiveHandler(Log())
    logger.addHandler(handler)
    own = logging.getLogger("django_live.something")
    own.addHandler(handler)
    try:
        logger.error("no %s left", "tea")
        own.error("of ours")
        assert writing.writer.flush()
    finally:
        logger.removeHandler(handler)
        own.removeHandler(handler)
    assert [item[2:] for item in snapshot(Log())["items"]] == [["ERROR", "no tea left"]]


def test_a_machine_has_a_load() -> None:
    pytest.importorskip("psutil")
    assert 0 <= system_metrics()["memory"] <= 100


@pytest.fixture
def endpoint() -> Iterator[tuple[str, dict[str, bytes]]]:
    answer = {"body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics", answer
        server.shutdown()
        thread.join()


def test_metrics_of_other_programs_become_rows(endpoint: tuple[str, dict[str, bytes]]) -> None:
    pytest.importorskip("prometheus_client")
    url, answer = endpoint
    answer["body"] = b'# TYPE hits counter\nhits_total{path="/a",code="200"} 7\nup NaN\n'
    rows = prometheus_metrics(url)
    assert rows["hits_total{code=200, path=/a}"]["value"] == 7
    assert rows["up{}"]["value"] != rows["up{}"]["value"], "NaN, which a board shows as nothing"
    answer["body"] = b'hits{path="/a 7\n'
    with pytest.raises(ValueError, match="could not convert"):
        prometheus_metrics(url)
    with pytest.raises(LiveError, match="no address"):
        prometheus_metrics("file:///etc/passwd")
