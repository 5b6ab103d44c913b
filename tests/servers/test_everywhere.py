"""``publish()`` from wherever a project runs: each a real process whose event reaches a plain reader.

The web process that the reader is connected to checks no heads and sweeps nothing, so only the
publisher itself can have brought an event.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers.test_streams import open_stream
from tests.support import prepared
from tests.support.databases import ServerDatabase, run_python, server_database
from tests.support.http import Visitor
from tests.support.redis import RedisServer
from tests.support.requirements import require
from tests.support.servers import PROJECT_ROOT, Server, free_port

TOLD = ["outside", "inside"]
"""What `everywhere.tell()` publishes and does not take back."""
ARRIVES = 30
"""Seconds; on an idle machine it is a fraction of one."""
BIN = Path(sys.executable).parent


class Site(NamedTuple):
    """A web process that holds streams, and what another process needs to publish to it."""

    web: Server
    redis: RedisServer
    env: dict[str, str]
    database: ServerDatabase

    def python(self, source: str) -> str:
        """A process in which nothing of ours has run before: that is what is tested here."""
        lines = f"import django\ndjango.setup()\n{textwrap.dedent(source)}"
        return run_python(["-"], self.database.env, stdin=lines)


@contextmanager
def site(store: str, folder: Path, **more: str) -> Iterator[Site]:
    require("redis-server")
    with server_database("sqlite", folder) as made, RedisServer() as redis:
        live = {"STORE": store, "HEAD_CHECK": 3600, "SWEEP": 3600, "REDIS_URL": redis.url}
        env = {
            **made.env,
            "DJANGO_SETTINGS_MODULE": "tests.settings_everywhere",
            "LIVE_TEST_LAYER": redis.url,
            "LIVE_TEST_DJANGO_LIVE": json.dumps(live),
            "EVERYWHERE_BROKER": redis.url.removesuffix("/0") + "/5",
            **more,
        }
        database = ServerDatabase("sqlite", made.name, env)
        with Server("uvicorn", env=env, log_path=folder / "web.log") as web:
            yield Site(web, redis, env, database)


SiteWith = Callable[[str], Site]


@pytest.fixture(scope="module")
def site_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteWith]:
    """`site_with("redis")`: the module's site with that store."""
    made: dict[str, Site] = {}
    with ExitStack() as stack:

        def start(store: str) -> Site:
            if store not in made:
                made[store] = stack.enter_context(site(store, tmp_path_factory.mktemp(store)))
            return made[store]

        yield start


@pytest.fixture
def everywhere(request: pytest.FixtureRequest, site_with: SiteWith) -> Site:
    """With Redis as the store, unless the test names others: both would double the time of this module,
    and most of what can go wrong here is the loop's, whatever the store."""
    return site_with(getattr(request, "param", "redis"))


on_each_store = pytest.mark.parametrize("everywhere", ["database", "redis"], indirect=True)


def arrives(here: Site, work: Callable[[str], object], expected: list[str] = TOLD) -> None:
    """Exactly what is expected comes while the work is done, in this order."""
    topic = f"open/{work.__name__.replace('_', '-')}"
    with open_stream(here.web, topic) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open", 20)
        work(topic)
        came = [frame.json()["n"] for frame in reader.events(len(expected), ARRIVES)]
        assert came == expected


@contextmanager
def process(
    command: list[str], env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own that is ended in the end; its log is printed for a failing test."""
    with log.open("wb") as output:
        running = prepared.Popen(
            command,
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        end_group(running)
        print(log.read_text(errors="replace")[-8000:])  # noqa: T201


def end_group(running: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to whoever is left."""
    running.terminate()
    with suppress(subprocess.TimeoutExpired):
        running.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def wait_for_http(port: int, running: subprocess.Popen[bytes]) -> Visitor:
    """A visitor of the server on that port, once it answers."""
    visitor = Visitor(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 40
    while True:
        try:
            assert visitor.get("/process/").status == 200
        except OSError:
            assert running.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return visitor


# -- without a server of its own -------------------------------------------------------------------


@on_each_store
def test_a_sync_view_and_an_async_view(everywhere: Site) -> None:
    visitor = Visitor(everywhere.web.url)

    def sync_view(topic: str) -> None:
        assert visitor.get(f"/sync/{topic}").text == "0 orders"

    def async_view(topic: str) -> None:
        assert visitor.get(f"/async/{topic}").text == "0 orders"

    arrives(everywhere, sync_view)
    arrives(everywhere, async_view)


@pytest.mark.parametrize("everywhere", ["database"], indirect=True)
def test_a_management_command(everywhere: Site) -> None:
    def command(topic: str) -> None:
        run_python(["-m", "django", "publish_to", topic], everywhere.env)

    arrives(everywhere, command)


def test_a_plain_thread(everywhere: Site) -> None:
    def thread(topic: str) -> None:
        everywhere.python(f"""
            import threading
            from tests.servers.everywhere import tell
            for _ in range(2):
                thread = threading.Thread(target=tell, args=({topic!r},))
                thread.start()
                thread.join()
        """)

    arrives(everywhere, thread, TOLD * 2)


@on_each_store
def test_a_forked_worker_and_its_parent(everywhere: Site) -> None:
    """Both were born with a loop that runs in one of them only; neither may wait for the other."""

    def fork(topic: str) -> None:
        printed = everywhere.python(f"""
            import os, sys, time
            from tests.servers.everywhere import tell
            tell({topic!r})
            child = os.fork()
            began = time.monotonic()
            tell({topic!r})
            if child == 0:
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            tell({topic!r})  # the child's end must not have closed what is the parent's
            print(time.monotonic() - began)
        """)
        # Had a message been waited for in vain, it would be two seconds for each.
        assert float(printed.split()[-1]) < 8

    topic = "open/fork"
    with open_stream(everywhere.web, topic) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open", 20)
        fork(topic)
        came = [frame.json()["n"] for frame in reader.events(8, ARRIVES)]
    assert came[:2] == TOLD
    assert sorted(came[2:6]) == sorted(TOLD * 2)
    assert came[6:] == TOLD


# -- WSGI servers ----------------------------------------------------------------------------------

GUNICORN = [
    *(str(BIN / "gunicorn"), "--preload", "--workers", "2", "--graceful-timeout", "3"),
    "--no-control-socket",
]
UWSGI = [
    *(str(BIN / "uwsgi"), "--master", "--processes", "2", "--need-app", "--die-on-term"),
    *("--virtualenv", str(BIN.parent), "--pythonpath", str(PROJECT_ROOT)),
]
WSGI_SERVERS = {
    "gunicorn": [*GUNICORN, "--bind", "127.0.0.1:{port}", "tests.servers.everywhere"],
    "gunicorn-gevent": [
        *(word for word in GUNICORN if word != "--preload"),
        *("--worker-class", "gevent", "--bind", "127.0.0.1:{port}", "tests.servers.everywhere"),
    ],
    "uwsgi": [*UWSGI, "--http-socket", "127.0.0.1:{port}", "--module", "tests.servers.everywhere"],
    "uwsgi-threads": [
        *(*UWSGI, "--enable-threads", "--threads", "2"),
        *("--http-socket", "127.0.0.1:{port}", "--module", "tests.servers.everywhere"),
    ],
}


@pytest.mark.parametrize(
    ("server", "store"),
    [
        ("gunicorn", "database"),
        ("gunicorn-gevent", "redis"),
        ("uwsgi", "redis"),
        ("uwsgi-threads", "database"),
    ],
)
def test_a_wsgi_server_that_forked_its_workers_after_a_publish(
    server: str, store: str, site_with: SiteWith, tmp_path: Path
) -> None:
    everywhere = site_with(store)
    port = free_port()
    command = [word.format(port=port) for word in WSGI_SERVERS[server]]
    # gevent patches each worker after the fork; what is imported and begun before that stays as it was.
    warm = "" if server == "gunicorn-gevent" else "open/warm"
    env = {**everywhere.env, "EVERYWHERE_WARM": warm}
    with process(command, env, tmp_path / "server.log") as running:
        visitor = wait_for_http(port, running)

        def request(topic: str) -> None:
            answer = visitor.get(f"/sync/{topic}")
            assert (answer.status, answer.text) == (200, "0 orders")

        request.__name__ = server
        began = time.monotonic()
        arrives(everywhere, request)
        assert time.monotonic() - began < 8, "something was waited for in vain"


def test_green_threads_of_gevent(everywhere: Site) -> None:
    """Twenty at once, and the layer's host is a name: gevent looks names up in green threads."""
    env = {
        **everywhere.env,
        "LIVE_TEST_LAYER": everywhere.redis.url.replace("127.0.0.1", "localhost"),
    }
    by_name = everywhere._replace(database=ServerDatabase("sqlite", everywhere.database.name, env))

    def green(topic: str) -> None:
        printed = run_patched(
            by_name,
            f"""
            import time
            import gevent
            from django.db import connection
            from tests.servers.everywhere import tell
            def work():
                tell({topic!r})
                connection.close()
            tell({topic!r})
            began = time.monotonic()
            gevent.joinall([gevent.spawn(work) for _ in range(20)], raise_error=True)
            print(time.monotonic() - began)
            """,
        )
        assert float(printed.split()[-1]) < 20, "messages were waited for in vain"

    with open_stream(everywhere.web, "open/green") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open", 20)
        green("open/green")
        came = [frame.json()["n"] for frame in reader.events(42, ARRIVES)]
    assert sorted(came) == sorted(TOLD * 21)


def run_patched(here: Site, source: str) -> str:
    """`Site.python()` in a process that gevent has patched before anything else."""
    patch = "from gevent import monkey; monkey.patch_all()"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{patch}\nimport django\ndjango.setup()\n{textwrap.dedent(source)}",
        ],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **here.database.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "not sent" not in done.stderr
    return done.stdout


# -- Celery ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "store"), [("prefork", "redis"), ("threads", "database"), ("solo", "database")]
)
def test_a_celery_worker(pool: str, store: str, site_with: SiteWith, tmp_path: Path) -> None:
    """The worker has published before it forks, as a project's start may do."""
    everywhere = site_with(store)
    worker = [sys.executable, "-m", "celery", "--app", "tests.servers.everywhere:celery_app"]
    worker += ["worker", "--pool", pool, "--concurrency", "2", "--loglevel", "INFO"]
    worker += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    env = {**everywhere.env, "EVERYWHERE_WARM": "open/warm"}

    def celery(topic: str) -> None:
        everywhere.python(f"""
            from tests.servers.everywhere import celery_app
            celery_app.send_task("tell", [{topic!r}])
        """)

    celery.__name__ = f"celery_{pool}"
    with process(worker, env, tmp_path / "worker.log"):
        arrives(everywhere, celery)
        assert "not sent" not in (tmp_path / "worker.log").read_text()


# -- the end of a process --------------------------------------------------------------------------

EXITS = """
    import atexit, threading, time
    from django_live import publish
    from django_live.core.spare_loop import spare_loop
    if {flushes} is False:
        atexit.unregister(spare_loop.flush)
    thread = threading.Thread(
        target=publish, args=("ephemeral/exit", "counted", {{"n": "last"}}), daemon=True
    )
    thread.start()
    while not spare_loop._own.turn.locked():
        time.sleep(0.001)
"""
"""The layer takes its time, and the main thread has nothing more to do."""


@pytest.mark.parametrize("flushes", [True, False])
def test_a_process_that_ends_right_after_a_publish(flushes: bool, everywhere: Site) -> None:
    """With its negative control: without the flush at exit the event is gone with the process."""
    slow = {
        **everywhere.env,
        "LIVE_TEST_LAYER_BACKEND": "tests.servers.slow_layer.SlowLayer",
        "LIVE_TEST_LAYER": everywhere.redis.url.replace("127.0.0.1", "localhost"),
    }
    with open_stream(everywhere.web, "ephemeral/exit") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open", 20)
        slow_site = everywhere._replace(
            database=ServerDatabase("sqlite", everywhere.database.name, slow)
        )
        slow_site.python(EXITS.format(flushes=flushes))
        if flushes:
            assert reader.next_event(ARRIVES).json() == {"n": "last"}
        else:
            assert not [frame for frame in reader.frames_during(1) if frame.event == "counted"]
