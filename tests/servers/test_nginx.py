"""Every transport through nginx, over TLS, by HTTP/1.1 and HTTP/2: the configuration is that of
docs/howto/deploy.md, word for word but for addresses and certificate."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import httpx_sse
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.docs.markdown import ROOT, blocks
from tests.docs.test_deploy_guide import nginx_version
from tests.support.databases import server_database
from tests.support.http2 import Http2Connection
from tests.support.nginx import Nginx
from tests.support.requirements import requires
from tests.support.servers import Server
from tests.support.tls import context_that_trusts, write_certificate
from tests.transport_contract.clients import Site
from tests.transport_contract.conftest import SETTINGS

pytestmark = requires("nginx")

COLLECTING = """
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_http_version 1.1;
            proxy_ignore_headers X-Accel-Buffering;
            gzip on;
            gzip_proxied any;
            gzip_types text/event-stream application/json;
            proxy_pass http://127.0.0.1:SERVER;
            proxy_set_header Host $http_host;
        }
    }
"""
"""It compresses streams, does not know the header by which they ask not to be collected, and so keeps what
is too little to write."""


class Front(NamedTuple):
    """A site behind nginx."""

    site: Site
    url: str
    port: int
    certificate: Path

    def client(self, version: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            http2=version == "HTTP/2",
            verify=context_that_trusts(self.certificate),
            timeout=20,
            trust_env=False,
        )


def guide(server: Server, certificate: Path) -> str:
    """The printed configuration, on ports that are free."""
    (text,) = (
        block.text
        for block in blocks(ROOT / "docs/howto/deploy.md")
        if block.language == "nginx" and "http2 on" in block.text
    )
    text = re.sub(r"(?m)^ *server 127\.0\.0\.1:800[12];\n", "", text)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    text = text.replace("listen 443", "listen 127.0.0.1:PORT")
    text = re.sub(r"(ssl_certificate(?:_key)?\s+)\S+;", rf"\1{certificate};", text)
    if nginx_version() < (1, 25, 1):  # as the guide says
        text = re.sub(r"(listen \S+ ssl);\s*http2 on;", r"\1 http2;", text)
    return text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with server_database("sqlite", folder, SETTINGS) as database:
        env = {**database.env, "DJANGO_SETTINGS_MODULE": SETTINGS}
        with Server("uvicorn", env=env, log_path=folder / "server.log") as server:
            yield Site(server)


@pytest.fixture(scope="module")
def front(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    certificate = write_certificate(tmp_path_factory.mktemp("tls") / "both.pem")
    with Nginx(guide(site.server, certificate)) as nginx:
        yield Front(site, f"https://127.0.0.1:{nginx.port}", nginx.port, certificate)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_events_pass_one_by_one(front: Front, version: str) -> None:
    topic = f"kept/one-by-one-{version[-1]}"
    path = f"/live/events/?{urlencode({'topic': topic})}"
    with (
        front.client(version) as client,
        httpx_sse.connect_sse(client, "GET", path) as source,
    ):
        assert source.response.http_version == version
        events = (event for event in source.iter_sse() if event.event != "keep-alive")
        assert next(events).event == "stream-open"
        for n in range(3):  # the next one is published when this one is there
            front.site.say(topic, n)
            assert next(events).json()["n"] == n


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_a_long_poll_is_held_and_answered(front: Front, version: str) -> None:
    topic = f"kept/held-{version[-1]}"
    with front.client(version) as client, ThreadPoolExecutor(1) as thread:
        first = client.get("/live/poll/", params={"topic": topic})
        assert first.http_version == version
        asked = {"topic": topic, "cursor": first.json()["cursor"], "wait": "20"}
        held = thread.submit(client.get, "/live/poll/", params=asked)
        _wait_until_subscribed(front.site, topic)
        assert not held.done()
        front.site.say(topic, 7)
        assert [f["data"]["n"] for f in held.result(20).json()["frames"]] == [7]


def test_a_websocket_is_upgraded(front: Front) -> None:
    topic = "kept/upgraded"
    with connect(
        f"wss://127.0.0.1:{front.port}/live/ws/",
        ssl=context_that_trusts(front.certificate),
        subprotocols=[Subprotocol("live.1")],
        origin=Origin(front.url),
        proxy=None,
    ) as socket:
        assert json.loads(socket.recv(20))["event"] == "stream-open"
        socket.send(json.dumps({"action": "subscribe", "ref": 1, "topics": [topic]}))
        heard: list[Any] = []
        while not any(frame["event"] == "stream-reply" for frame in heard):
            heard += [json.loads(line) for line in str(socket.recv(20)).splitlines()]
        front.site.say(topic, 1)
        while not any(frame["event"] == "counted" for frame in heard):
            socket.send(json.dumps({"action": "pong"}))
            heard += [json.loads(line) for line in str(socket.recv(20)).splitlines()]
        (reply,) = (frame for frame in heard if frame["event"] == "stream-reply")
        assert reply["data"]["topics"] == [topic]


def test_120_streams_share_one_connection_of_http_2(front: Front) -> None:
    topics = [f"kept/shared-{n % 3}" for n in range(120)]
    context = context_that_trusts(front.certificate, "h2")
    with Http2Connection("127.0.0.1", front.port, context) as connection:
        streams = [
            connection.get(f"/live/events/?{urlencode({'topic': topic})}") for topic in topics
        ]

        def all_have(text: bytes) -> bool:
            return all(text in connection.bodies[stream] for stream in streams)

        connection.read_until(lambda: all_have(b"event: stream-open"))
        for topic in sorted(set(topics)):
            front.site.say(topic, 5)
        connection.read_until(lambda: all_have(b'"n":5'))
        assert set(connection.statuses.values()) == {200}
        assert not connection.ended
        for stream, topic in zip(streams, topics, strict=True):
            assert connection.bodies[stream].count(b"event: counted") == 1
            assert f"topic: {topic}\n".encode() in connection.bodies[stream]


def test_a_proxy_that_collects_is_why_there_are_polls(site: Site) -> None:
    """The negative control of the above: there a stream says nothing, and polls tell everything."""
    topic = "kept/collected"
    with (
        Nginx(COLLECTING.replace("SERVER", str(site.server.port))) as nginx,
        httpx.Client(base_url=nginx.url, timeout=3, trust_env=False) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        cursor = client.get("/live/poll/", params={"topic": topic}).json()["cursor"]
        # Not even the head of the answer comes within its three seconds.
        stream = thread.submit(client.get, "/live/events/", params={"topic": topic})
        _wait_until_subscribed(site, topic)
        site.say(topic, 1)
        with pytest.raises(httpx.ReadTimeout):
            stream.result()
        answer = client.get("/live/poll/", params={"topic": topic, "cursor": cursor}).json()
        assert [frame["data"]["n"] for frame in answer["frames"]] == [1]


def _wait_until_subscribed(site: Site, topic: str) -> None:
    deadline = time.monotonic() + 20
    while site.hooks(topic)["subscribed"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
