"""``make demo-cluster``: what it starts serves, delivers across its processes, and ends with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from example_project.cluster import WEB_PROCESSES
from tests.servers.test_streams import path_of
from tests.support.http import Visitor
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT, free_port
from tests.support.sse_reader import SSEReader

pytestmark = requires("nginx", "redis-server")


def free_range(length: int) -> int:
    """The first of so many ports that nobody listens on."""
    for _ in range(50):
        first = free_port()
        with suppress(OSError):
            for port in range(first, first + length):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


class Running(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    base: int


def command(port: int, base: int) -> list[str]:
    ports = ["--port", str(port), "--base-port", str(base)]
    return [sys.executable, "-m", "example_project.cluster", *ports, "--rate", "4"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Running]:
    port, base = free_port(), free_range(1 + WEB_PROCESSES)
    env = {name: value for name, value in os.environ.items() if not name.startswith("EXAMPLE_")}
    log = tmp_path / "cluster.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command(port, base),
            cwd=PROJECT_ROOT,
            env={**env, "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    deadline = time.monotonic() + 90
    try:
        while "The demo:" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Running(process, port, base)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
        print(log.read_text())  # noqa: T201


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes at the test's end what it is given."""
    with ExitStack() as stack:
        yield stack


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@pytest.mark.timeout(240)
def test_streams_of_three_processes_hear_the_worker_and_ctrl_c_ends_everything(
    cluster: Running, tmp_path: Path, closing: ExitStack
) -> None:
    visitor = Visitor(f"http://127.0.0.1:{cluster.port}")
    visitor.log_in("staff", "demo-staff", "/login/")
    made_by = {
        re.search(r"This page was made by (web \d)", visitor.get("/").text)[1]  # type: ignore[index]
        for _ in range(WEB_PROCESSES * 4)
    }
    assert made_by == {f"web {number}" for number in range(1, WEB_PROCESSES + 1)}
    headers = {"Accept": "text/event-stream", **visitor.cookie_header}
    streams: dict[str, SSEReader] = {}
    for _ in range(WEB_PROCESSES * 6):
        reader = SSEReader(visitor.host, visitor.port, path_of("board"), headers)
        closing.enter_context(reader)
        assert reader.status == 200
        streams.setdefault(reader.headers["x-upstream"], reader)
        if len(streams) == WEB_PROCESSES:
            break
    assert len(streams) == WEB_PROCESSES
    first = {address: reader.next_event(40).json() for address, reader in streams.items()}
    # Each began a little later than the one before; the events after that are the same for all.
    seen = {address: {told["pk"]} for address, told in first.items()}
    deadline = time.monotonic() + 60
    while not set.intersection(*seen.values()):
        assert time.monotonic() < deadline, seen
        for address, reader in streams.items():
            seen[address].add(reader.next_event(40).json()["pk"])
    ports = [cluster.port, *range(cluster.base, cluster.base + 1 + WEB_PROCESSES)]
    assert all(listens(port) for port in ports)
    cluster.process.send_signal(signal.SIGINT)
    assert cluster.process.wait(60) == 0
    for reader in streams.values():
        assert reader.wait_until_ended(20).clean, "each stream is told good-bye"
    assert not any(listens(port) for port in ports)
    assert not list(tmp_path.glob("django_live_cluster_*")), "the folder went with it"


@pytest.mark.parametrize("missing", ["nginx", "redis-server"])
def test_a_missing_program_is_named_with_the_way_to_get_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from example_project import cluster

    def which(name: str, **_: str) -> str | None:
        return None if name == missing else f"/usr/bin/{name}"

    monkeypatch.setattr("shutil.which", which)
    monkeypatch.setattr("sys.argv", ["cluster"])
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert cluster.main() == 1
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    said = capsys.readouterr().err
    assert f"needs {missing}" in said
    assert f"apt-get install {missing}" in said


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(port, free_range(1 + WEB_PROCESSES)),
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"Port {port} (nginx) cannot be used" in done.stderr
    assert "PORT=8080" in done.stderr
