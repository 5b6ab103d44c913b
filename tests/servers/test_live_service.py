"""Pages under WSGI, streams from processes that serve nothing else: real servers behind nginx, as
docs/howto/live-service.md has them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.docs.markdown import ROOT, blocks
from tests.servers.test_everywhere import GUNICORN, process
from tests.servers.test_streams import USERS, open_stream, path_of
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.nginx import Nginx
from tests.support.redis import RedisServer
from tests.support.requirements import requires
from tests.support.servers import Server, free_port
from tests.support.sse_reader import SSEReader

PAGES = "http://www.example.com"
"""The origin of pages whose live service has another host name."""
StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]


def nginx_of_the_guide(pages: int, live: int) -> str:
    """The printed configuration, on other ports."""
    (block,) = (
        one for one in blocks(ROOT / "docs/howto/live-service.md") if one.language == "nginx"
    )
    text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{pages}")
    text = text.replace("127.0.0.1:8001", f"127.0.0.1:{live}")
    return text.replace("listen 80;", "listen 127.0.0.1:PORT;")


def wait_until_it_answers(url: str, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 40
    while True:
        try:
            assert Visitor(url).get("/live/health/alive/").status == 200
        except OSError:
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@requires("nginx")
def test_a_save_in_a_wsgi_page_reaches_a_stream_of_the_live_service(
    new_server_database: NewDatabase,
    own_redis: RedisServer,
    start_server: StartServer,
    tmp_path: Path,
) -> None:
    database = new_server_database("sqlite")
    order, _ = database.python(USERS).split()
    # Only the layer can bring it in time.
    env = {
        **database.env,
        "LIVE_TEST_LAYER": own_redis.url,
        "LIVE_TEST_DJANGO_LIVE": json.dumps(
            {
                "HEAD_CHECK": 3600,
                "SWEEP": 3600,
                "CORS_ORIGINS": [PAGES],
                "CORS_CREDENTIALS": True,
            }
        ),
    }
    live = start_server("uvicorn", "tests.servers.live_asgi:application", env=env)
    port = free_port()
    pages = [*GUNICORN, "--bind", f"127.0.0.1:{port}", "django.core.wsgi:get_wsgi_application()"]
    with (
        process(pages, env, tmp_path / "gunicorn.log") as running,
        Nginx(nginx_of_the_guide(port, live.port)) as nginx,
    ):
        wait_until_it_answers(f"http://127.0.0.1:{port}", running)
        visitor = Visitor(nginx.url)
        visitor.log_in("anna", "anna")
        topics = path_of(f"orders/{order}")
        headers = {"Accept": "text/event-stream", **visitor.cookie_header}
        with SSEReader(nginx.host, nginx.port, topics, headers) as reader:
            assert reader.status == 200
            reader.wait_for(lambda frame: frame.event == "stream-open", 20)
            changed = visitor.post(f"/orders/{order}/change/", {"status": "paid"})
            assert changed.status == 204
            assert "paid" in str(reader.next_event(20).data)
            with of_another_host(live, topics, PAGES, visitor) as stream:
                assert stream.headers["access-control-allow-origin"] == PAGES
                assert stream.headers["access-control-allow-credentials"] == "true"
                stream.wait_for(lambda frame: frame.event == "stream-open", 20)
                visitor.post(f"/orders/{order}/change/", {"status": "sent"})
                assert "sent" in str(stream.next_event(20).data)
                assert "sent" in str(reader.next_event(20).data)
            for origin in ("http://evil.example.com", "https://www.example.com"):
                with of_another_host(live, topics, origin, visitor) as refused:
                    assert refused.status == 403
                    assert "access-control-allow-origin" not in refused.headers
            # The session is one: who logs out on a page loses the stream.
            visitor.log_out()
            reader.wait_for(lambda frame: frame.event == "stream-error", 20)
        with SSEReader(nginx.host, nginx.port, topics) as stranger:
            assert stranger.status == 403
        assert visitor.get("/live/health/").json()["streams"] is True
        assert Visitor(f"http://127.0.0.1:{port}").get(topics).status == 501


def of_another_host(live: Server, path: str, origin: str, visitor: Visitor) -> SSEReader:
    """A stream of a page on a host beside the live service's, with the cookies of their domain."""
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-site", **visitor.cookie_header}
    return SSEReader(live.host, live.port, path, headers)


def test_a_live_process_serves_nothing_else(
    new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    database.python(USERS)
    live = start_server("uvicorn", "tests.servers.live_asgi:application", env=database.env)
    everything = start_server("uvicorn", env=database.env)
    for path, usual in (("/", 200), ("/admin/login/", 200), ("/accounts/login/", 200)):
        assert Visitor(live.url).get(path).status == 404
        assert Visitor(everything.url).get(path).status == usual, "the negative control"
    assert Visitor(live.url).request("HEAD", "/").status == 404
    assert Visitor(live.url).post("/admin/login/").status == 404
    assert Visitor(live.url).get("/live/").status == 404
    assert Visitor(live.url).get("/live/health/").status == 200
    assert Visitor(live.url).get("/live/poll/?topic=open/a").status == 200
    with open_stream(live, "open/a") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open", 20)
        database.python("from django_live import publish; publish('open/a', 'counted', {'n': 1})")
        assert reader.next_event(20).json() == {"n": 1}
    assert websocket_status(live, "/nowhere/") == 403
    assert websocket_status(live, "/live/ws/") == 101
    for site in ("same-site", "cross-site"):  # a host name of its own, which no setting names here
        answer = Visitor(live.url).get(path_of("open/a"), headers={"Sec-Fetch-Site": site})
        assert (answer.status, answer.json()["errors"][0]["code"]) == (403, "cross-site")


def websocket_status(server: Server, path: str) -> int:
    """What a handshake gets: a WebSocket that is closed before it is accepted is a 403."""
    import http.client

    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    try:
        connection.request("GET", path, headers=handshake)
        return connection.getresponse().status
    finally:
        connection.close()
