"""The tests' own instruments are tested too: an instrument that cannot fail proves nothing."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.conftest import NewDatabase, StartServer
from tests.support import chromium
from tests.support.browsers import Expect
from tests.support.exactly_once import assert_exactly_once, judge
from tests.support.http import LoginFailedError, Visitor
from tests.support.postgres_url import PostgresServer
from tests.support.reader_pool import ReaderPool
from tests.support.redis import RedisServer
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT, Server, ServerError
from tests.support.sse_reader import SSEReader, StreamEndedError
from tests.support.wire import Frame, FrameParser, ProtocolViolationError, ResponseParser

BARE = "tests.support.bare_stream:application"


# -- frames and responses --------------------------------------------------------------------------

STREAM = (
    "\ufeffretry: 2000\nevent: stream-open\ndata: {}\nid: c0\n\n"
    ": a comment\n\n"
    "event:updated\r\ntopic: größe/ü\r\ndata: one\rdata:\r\ndata:  two \nid: c1\n\r\n"
    "id: c2\n\n"
    "data\n\n"
    "event: lost, for its empty line never comes\n"
).encode()

FRAMES = [
    [("retry", "2000"), ("event", "stream-open"), ("data", "{}"), ("id", "c0")],
    [],
    [
        ("event", "updated"),
        ("topic", "größe/ü"),
        ("data", "one"),
        ("data", ""),
        ("data", " two "),
        ("id", "c1"),
    ],
    [("id", "c2")],
    [("data", "")],
]


def parsed(pieces: list[bytes]) -> list[Frame]:
    parser = FrameParser()
    return [frame for piece in pieces for frame in parser.feed(piece)]


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """Each way to cut the bytes once, and all of them at once."""
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def test_frames_are_the_same_wherever_the_network_cuts_the_bytes() -> None:
    for pieces in every_cut(STREAM):
        assert [list(frame.fields) for frame in parsed(pieces)] == FRAMES, pieces


def test_a_frame_tells_its_parts() -> None:
    first, comment, event, cursor_only, _ = parsed([STREAM])
    assert (first.event, first.retry, first.json()) == ("stream-open", 2000, {})
    assert comment.comments == (" a comment",)
    assert (event.event, event.topic, event.data, event.id) == (
        "updated",
        "größe/ü",
        "one\n\n two ",
        "c1",
    )
    assert (cursor_only.event, cursor_only.data, cursor_only.id) == (None, None, "c2")


def test_an_unfinished_frame_is_seen_as_such() -> None:
    parser = FrameParser()
    parser.feed(b"data: 1\n\n")
    assert not parser.unfinished
    parser.feed(b"data: 2\n")
    assert parser.unfinished


CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;name=value\r\nab\r\n\r\n1A\r\ncdefghijklmnopqrstuvwxyz01\r\n0\r\nTrailer: x\r\n\r\n"
)


def test_a_chunked_body_is_the_same_wherever_the_network_cuts_the_bytes() -> None:
    for pieces in every_cut(CHUNKED):
        response = ResponseParser()
        body = b"".join(response.feed(piece) for piece in pieces)
        assert body == b"ab\r\ncdefghijklmnopqrstuvwxyz01"
        assert (response.status, response.ended) == (200, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(answer: bytes) -> None:
    with pytest.raises(ProtocolViolationError):
        ResponseParser().feed(answer)


def test_a_body_without_length_ends_with_the_connection_and_a_chunked_one_does_not() -> None:
    plain, chunked = ResponseParser(), ResponseParser()
    plain.feed(b"HTTP/1.1 200 OK\r\n\r\nab")
    chunked.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    plain.connection_closed()
    chunked.connection_closed()
    assert (plain.ended, chunked.ended) == (True, False)


# -- one reader ------------------------------------------------------------------------------------


@contextmanager
def speaker(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection: reads the request, then does what `talk` says. Its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(4096)
            talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(10)
        listener.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"x-twice: 1\r\nX-Twice: 2\r\ntransfer-encoding: chunked\r\n\r\n"
)


def test_a_reader_understands_a_stream_that_comes_byte_by_byte() -> None:
    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Every byte of the stream is a chunk of its own, and every byte of that a packet.
        body = b"".join(chunk(STREAM[at : at + 1]) for at in range(len(STREAM)))
        for byte in HEAD + body + chunk(b""):
            connection.sendall(bytes([byte]))

    with speaker(talk) as port, SSEReader("127.0.0.1", port, "/") as reader:
        assert (reader.status, reader.headers["x-twice"]) == (200, "1, 2")
        assert [list(frame.fields) for frame in reader] == FRAMES
        assert reader.last_id == "c2"
        assert reader.wait_until_ended().clean


def test_a_reader_tells_a_stream_that_ended_from_one_that_broke() -> None:
    def break_off(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"data: 1\n\n"))

    with speaker(break_off) as port, SSEReader("127.0.0.1", port, "/") as reader:
        assert reader.next_frame().data == "1"
        with pytest.raises(StreamEndedError) as caught:
            reader.next_frame()
        assert not caught.value.clean


def test_waiting_in_vain_says_what_came_instead() -> None:
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"event: other\ndata: 1\n\n"))
        done.wait(10)

    with speaker(talk) as port, SSEReader("127.0.0.1", port, "/") as reader:
        with pytest.raises(TimeoutError, match="'event': 'other'"):
            reader.wait_for(lambda frame: frame.event == "wanted", timeout=0.2)
        assert reader.frames_during(0.05) == []
        done.set()


@pytest.mark.parametrize(("leave", "abruptly"), [("close", False), ("cut", True)])
def test_a_reader_leaves_politely_or_abruptly(leave: str, abruptly: bool) -> None:
    endings: list[object] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        try:
            endings.append(connection.recv(1))
        except ConnectionResetError as error:
            endings.append(error)

    with speaker(talk) as port:
        getattr(SSEReader("127.0.0.1", port, "/"), leave)()
    assert isinstance(endings[0], ConnectionResetError) is abruptly


def test_a_slow_reader_takes_no_more_than_its_rate() -> None:
    flood = chunk(b"data: " + b"x" * 50_000 + b"\n\n")

    def talk(connection: socket.socket) -> None:
        connection.sendall(HEAD + flood)

    began = time.monotonic()
    with speaker(talk) as port:
        reader = SSEReader("127.0.0.1", port, "/", bytes_per_second=20_000)
        with pytest.raises(TimeoutError):
            reader.next_frame(timeout=0.5)
        assert 0 < reader.bytes_received <= 20_000 * (time.monotonic() - began) < len(flood)
        reader.close()


def test_an_answer_that_is_no_stream_is_read_whole(start_server: StartServer) -> None:
    server = start_server("uvicorn", BARE)
    with SSEReader(server.host, server.port, "/refused") as reader:
        assert reader.status == 403
        assert reader.json() == {"errors": [{"code": "forbidden"}]}


# -- servers and many readers ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["daphne", "uvicorn"])
def test_a_server_is_killed_restarted_and_looked_into(name: str, start_server: StartServer) -> None:
    server = start_server(name, BARE)
    first = server.pid
    with SSEReader(server.host, server.port, "/?count=2") as reader:
        assert [frame.json()["n"] for frame in reader.events(2)] == [1, 2]
        before = server.open_files()
        with ExitStack() as more:
            for _ in range(10):
                more.enter_context(SSEReader(server.host, server.port, "/"))
            # Nine: the connection by which the server was found ready may be going just now.
            assert server.open_files() >= before + 9
        assert server.threads() >= 1
        assert server.rss_kb() > 1_000
        assert server.cpu_seconds() > 0
        server.kill()
        assert not reader.wait_until_ended().clean
    assert not server.running
    server.restart()
    assert server.pid != first
    with SSEReader(server.host, server.port, "/?count=1&end=1") as reader:
        assert len(list(reader)) == 2
    # uvicorn ends by the signal it was sent, daphne with its own code.
    assert server.terminate() in {0, -15}
    with pytest.raises(ServerError, match="is not running"):
        server.threads()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = Server("uvicorn", "no.such.module:application", log_path=tmp_path / "log")
    with pytest.raises(ServerError, match=r"No module named 'no'|Could not import"):
        server.start()


def test_a_pool_holds_many_readers_that_are_cut_and_come_back(
    start_server: StartServer, readers: ReaderPool
) -> None:
    server = start_server("uvicorn", BARE)
    for _ in range(300):
        readers.open(server.host, server.port, "/?topic=a&count=20")
    readers.wait_until_open()
    readers.wait_for_events(20)
    back = readers.readers[:50]
    for reader in back:
        readers.cut(reader)
    readers.wait_until(lambda: all(reader.over for reader in back))
    for reader in back:
        reader.path = "/?topic=a&count=25"
        readers.reopen(reader)
    readers.wait_until(lambda: all(len(reader.events) == 25 for reader in back))
    assert {reader.connections for reader in back} == {2}
    assert sum(reader.open for reader in readers.readers) == 300
    lists = readers.received()
    assert_exactly_once({"a": range(1, 26)}, {reader.name: lists[reader.name] for reader in back})
    others = {reader.name: lists[reader.name] for reader in readers.readers[50:]}
    assert len(judge({"a": range(1, 26)}, others).of_kind("lost")) == 250 * 5


def test_a_pool_tells_refusals_and_broken_streams(
    start_server: StartServer, readers: ReaderPool
) -> None:
    server = start_server("uvicorn", BARE)
    broken = readers.open(server.host, server.port, "/broken")
    readers.wait_until(lambda: broken.over is not None)
    assert broken.over == "closed within the body"
    assert broken.frames[0].event == "stream-open"
    readers.open(server.host, server.port, "/refused")
    with pytest.raises(RuntimeError, match="could not be opened"):
        readers.wait_until_open()
    server.kill()
    nobody = readers.open(server.host, server.port, "/")
    readers.wait_until(lambda: nobody.over is not None)
    assert "ECONNREFUSED" in (nobody.over or "")


# -- exactly once ----------------------------------------------------------------------------------

PUBLISHED = {"a": [1, 2, 3, 4], "b": [10, 11]}
ALL_OF_IT = [("a", 1), ("b", 10), ("a", 2), ("a", 3), ("b", 11), ("a", 4)]


def test_the_judge_accepts_what_is_right() -> None:
    verdict = assert_exactly_once(PUBLISHED, {"r1": ALL_OF_IT, "r2": sorted(ALL_OF_IT)})
    assert (verdict.readers, verdict.deliveries) == (2, 12)


@pytest.mark.parametrize(
    ("received", "kinds"),
    [
        (ALL_OF_IT[:-1], ["lost"]),
        (ALL_OF_IT[1:], ["lost"]),
        ([], ["lost"] * 6),
        ([*ALL_OF_IT, ("a", 4)], ["doubled"]),
        ([("a", 1), *ALL_OF_IT], ["doubled"]),
        ([("a", 2), ("a", 1), ("a", 3), ("a", 4), ("b", 10), ("b", 11)], ["reordered"]),
        ([*ALL_OF_IT, ("a", 5)], ["ghost"]),
        ([*ALL_OF_IT, ("c", 1)], ["ghost"]),
        ([*ALL_OF_IT[:-1], ("b", 4)], ["ghost", "lost"]),
        # Going back and repeating is one fault for each event that came again.
        ([*ALL_OF_IT, ("a", 3), ("a", 4)], ["doubled", "doubled"]),
    ],
)
def test_the_judge_finds_what_is_wrong(received: list[tuple[str, int]], kinds: list[str]) -> None:
    verdict = judge(PUBLISHED, {"good": ALL_OF_IT, "bad": received})
    assert sorted(fault.kind for fault in verdict.faults) == kinds
    assert {fault.reader for fault in verdict.faults} == {"bad"}
    with pytest.raises(AssertionError, match=kinds[0]):
        assert_exactly_once(PUBLISHED, {"bad": received})


def test_the_judge_knows_who_joined_late_and_who_subscribed_to_what() -> None:
    late = {"late": [("a", 3), ("a", 4)]}
    starts, topics = {"late": {"a": 2}}, {"late": ["a"]}
    assert judge(PUBLISHED, late, starts=starts, topics=topics).kept
    early = {"late": [("a", 2), ("a", 3), ("a", 4)]}
    assert judge(PUBLISHED, early, starts=starts, topics=topics).of_kind("ghost")
    strange = {"late": [*late["late"], ("b", 10)]}
    assert judge(PUBLISHED, strange, starts=starts, topics=topics).of_kind("ghost")


def test_the_judge_refuses_a_run_that_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        assert_exactly_once({}, {"r1": []})
    with pytest.raises(ValueError, match="not unique"):
        judge({"a": [1, 1]}, {})


# -- what is left out ------------------------------------------------------------------------------

SKIPPING = """
    import pytest
    from tests.support.requirements import require, requires

    @requires("chromium")
    def test_marked(): pass

    @pytest.fixture
    def browser(): require("chromium")

    def test_by_fixture(browser): pass

    def test_plain(): pytest.skip("no time today")

    @pytest.mark.skip(reason="not on Sundays")
    def test_by_mark(): pass

    @pytest.mark.xfail(strict=True)
    def test_expected_failure(): assert False

    def test_runs(): pass
"""


def run_pytest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, **env: str
) -> pytest.RunResult:
    """In a process of its own, on a machine without a Chromium."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("LIVE_CHROMIUM", "no-such-browser")
    for name in ("LIVE_REQUIRE", "LIVE_LEFT_OUT", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return pytester.runpytest_subprocess("-p", "tests.support.left_out", "--strict-markers")


def test_what_is_left_out_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        test_skipping=SKIPPING,
        test_module="import pytest\npytest.skip('no os', allow_module_level=True)",
    )
    result = run_pytest(pytester, monkeypatch, LIVE_LEFT_OUT="the client: npm is missing")
    result.assert_outcomes(passed=1, skipped=5, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "Left out: 2 tests: Chromium is missing (install the package `chromium`*)",
            "Left out: 1 test: no time today",
            "Left out: 1 test: not on Sundays",
            "Left out: 1 module: no os",
            "Left out: the client: npm is missing",
            "LIVE_REQUIRE=all makes each of these a failure.",
        ]
    )
    assert result.ret == 0


def test_nothing_may_be_left_out_when_all_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_skipping=SKIPPING)
    result = run_pytest(pytester, monkeypatch, LIVE_REQUIRE="all")
    result.assert_outcomes(passed=1, xfailed=1, failed=1, errors=3)
    result.stdout.fnmatch_lines(
        ["*left out, and LIVE_REQUIRE=all forbids that: Chromium is missing*"]
    )
    assert result.ret == 1


def test_a_module_may_not_skip_itself_when_all_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("import pytest\npytest.importorskip('no_such_module')")
    result = run_pytest(pytester, monkeypatch, LIVE_REQUIRE="all")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*forbids that: could not import 'no_such_module'*"])


def test_only_what_is_required_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_skipping=SKIPPING)
    result = run_pytest(pytester, monkeypatch, LIVE_REQUIRE="chromium, npm")
    result.assert_outcomes(passed=1, xfailed=1, errors=2, skipped=2)


def test_a_slip_of_the_pen_in_the_requirement_is_an_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_runs(): pass")
    result = run_pytest(pytester, monkeypatch, LIVE_REQUIRE="chrome")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    with pytest.raises(KeyError):
        requires("chrome")


# -- Redis -----------------------------------------------------------------------------------------


def redis_command(server: RedisServer, command: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 2) as connection:
        connection.settimeout(2)
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(1024)


@requires("redis-server")
@pytest.mark.parametrize(("persistent", "after"), [(False, b"$-1\r\n"), (True, b"$1\r\n1\r\n")])
def test_a_redis_server_is_killed_and_comes_back(persistent: bool, after: bytes) -> None:
    with RedisServer(persistent=persistent) as server:
        assert redis_command(server, "SET a 1") == b"+OK\r\n"
        server.kill()
        assert not server.answers()
        server.restart()
        assert redis_command(server, "GET a") == after
    assert not server.folder.exists()


# -- databases, the tests' site, a browser ---------------------------------------------------------

MAKE_A_USER = """
from django.contrib.auth.models import User
User.objects.create_user("ada", password="pass")
"""


@pytest.mark.parametrize(
    "url", ["postgresql://me:p%40ss@db.example:5433/live", "postgresql://me@db.example/postgres"]
)
def test_a_postgresql_url_survives_being_taken_apart(url: str) -> None:
    assert PostgresServer.from_url(url).url == url


@pytest.mark.parametrize(
    "engine", ["sqlite", pytest.param("postgresql", marks=requires("postgresql"))]
)
@pytest.mark.parametrize("name", ["daphne", "runserver"])
def test_a_visitor_logs_in_on_a_server_with_its_own_database(
    engine: str, name: str, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database(engine)
    database.python(MAKE_A_USER)
    server = start_server(name, env=database.env)
    visitor = Visitor(server.url)
    with pytest.raises(LoginFailedError):
        visitor.log_in("ada", "wrong")
    assert visitor.get("/orders/1/").status == 302
    visitor.log_in("ada", "pass")
    assert visitor.get("/").text == "user: ada"
    assert visitor.get("/orders/1/").status == 404
    assert "sessionid=" in visitor.cookie_header["Cookie"]
    visitor.log_out()
    assert visitor.get("/").text == "user: "


def test_the_browser_leaves_the_tests_thread_alone(page: Page, expect: Expect) -> None:
    page.goto("data:text/html,<p id=a>one</p>")
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    expect(page.locator("#a")).to_have_text("one")
    with page.expect_console_message() as caught:
        page.evaluate("() => { a.textContent = 'two'; console.log('hello', 2) }")
    assert caught.value.text == "hello 2"
    assert page.locator("p").all()[0].inner_text() == "two"
    assert page.evaluate("x => [x, navigator.webdriver]", {"b": 1})[0] == {"b": 1}


@pytest.mark.asyncio
async def test_coroutines_run_while_the_browser_is_open(page: Page) -> None:
    await asyncio.sleep(0)
    assert await asyncio.to_thread(page.title) == ""


def test_the_headless_shell_is_taken_unless_a_browser_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = chromium.find_headless_shell.__wrapped__
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LIVE_CHROMIUM", raising=False)
    assert find() is None
    shell = tmp_path / chromium.HEADLESS_SHELL
    shell.touch(0o755)
    assert find() == str(shell)
    monkeypatch.setenv("LIVE_CHROMIUM", "another")
    assert find() is None


def test_environment_of_the_example_is_set_too(new_server_database: NewDatabase) -> None:
    env = new_server_database().env
    assert env["EXAMPLE_SQLITE"] == env["LIVE_TEST_DATABASE_NAME"]
    assert json.dumps(dict(env))
    assert "DJANGO_SETTINGS_MODULE" in os.environ
