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
