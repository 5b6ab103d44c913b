"""What is measured: how each subject is started, how a client opens a connection, who publishes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wire import stream_request, websocket_request

APPS = Path(__file__).resolve().parent / "apps"
ROOT = APPS.parents[2]
SUBSCRIBE = '{"action":"subscribe","ref":1,"topics":["ticks/0"],"cursor":""}'
SERVERS = {
    "uvicorn": "-m uvicorn --host 127.0.0.1 --port {port} --loop uvloop --http httptools "
    "--ws websockets-sansio --ws-per-message-deflate false --no-access-log --log-level warning "
    "--backlog 4096 {app}",
    # Its default backpressure lets no more than 1,024 requests in at once, open streams included.
    "granian": "-m granian --interface asgi --host 127.0.0.1 --port {port} --backpressure 65536 "
    "--log-level warning {app}",
    "hypercorn": "-m hypercorn --workers 0 --bind 127.0.0.1:{port} --log-level warning {app}",
    "daphne": "-m daphne --bind 127.0.0.1 --port {port} --verbosity 0 {app}",
}
EVENTSTREAM_RATE, CHANNELS_RATE = 5, 2
"""Events a second. To 1,000 connections django-eventstream takes a tenth of a second of a processor for each,
the consumer of Channels half a second."""
LAYERS = {
    "memory": "channels.layers.InMemoryChannelLayer",
    "redis": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


@dataclass(frozen=True)
class Subject:
    name: str
    socket: bool
    """A WebSocket; otherwise a stream."""
    command: Callable[[int, Path], list[str]]
    """The server's arguments, given its port and a folder of its own."""
    path: str
    opened: str
    say: tuple[str, ...] = ()
    answer: str = ""
    """What its clients answer to a keep-alive, where they have to."""
    env: dict[str, str] = field(default_factory=dict)
    is_django: bool = False
    """Its connections come with the sessions of logged-in users."""
    most: int = 0
    """Events a second to 1,000 connections that it keeps up with on one processor; 0: as many as asked."""
    publish_at: str = ""
    """Where each event is posted from outside; empty: at `/publish` the subject makes its own."""
    is_there: Callable[[], bool] = lambda: True

    def rate(self, asked: int) -> int:
        """Events a second that it is given."""
        return min(asked, self.most) if self.most else asked

    @property
    def beside(self) -> str:
        """The name of django_live's row that this one is compared with: as many events a second."""
        pace = f", {self.most}/s," if self.most else ""
        return f"live{pace} uvicorn {'WebSocket' if self.socket else 'SSE'}"

    def opening(self, port: int, connections: int, sessions: list[str]) -> dict[str, Any]:
        make = websocket_request if self.socket else stream_request
        cookies = [f"Cookie: sessionid={key}\r\n" for key in sessions] if self.is_django else [""]
        return {
            "port": port,
            "connections": connections,
            "requests": [make(self.path, port, cookie) for cookie in cookies],
            "opened": self.opened,
            "say": list(self.say),
            "answer": self.answer,
            "socket": self.socket,
        }


def _python(app: str, server: str) -> Callable[[int, Path], list[str]]:
    line = SERVERS[server]
    app = f"benchmarks.fanout.apps.{app}:application"
    return lambda port, _folder: [sys.executable, *line.format(port=port, app=app).split()]


def _node(port: int, _folder: Path) -> list[str]:
    return ["node", str(APPS / "node/server.mjs"), str(port)]


def _nchan(port: int, folder: Path) -> list[str]:
    module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
load_module {module};
{user}
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /publish {{ nchan_publisher; nchan_channel_id ticks; nchan_message_buffer_length 5000; }}
    location = / {{
      nchan_subscriber eventsource websocket; nchan_channel_id ticks;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
""")
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _has_nchan() -> bool:
    return Path("/usr/lib/nginx/modules/ngx_nchan_module.so").is_file()


def _has_node() -> bool:
    return shutil.which("node") is not None and (APPS / "node/node_modules/ws").is_dir()


def all_subjects(redis_url: str) -> list[Subject]:
    """Every one that was thought of; `is_there` says whether this machine has what it needs."""
    subjects = []
    for server in SERVERS:
        subjects += [
            Subject(f"bare {server} SSE", False, _python("bare", server), "/", ": open"),
            Subject(
                f"live {server} SSE",
                False,
                _python("live", server),
                "/live/events/?topic=ticks/0",
                "stream-open",
                is_django=True,
            ),
            Subject(f"bare {server} WebSocket", True, _python("bare", server), "/", " 101 "),
            Subject(
                f"live {server} WebSocket",
                True,
                _python("live", server),
                "/live/ws/",
                "stream-reply",
                say=(SUBSCRIBE,),
                answer='{"action":"pong"}',
                is_django=True,
            ),
        ]
    by_name = {subject.name: subject for subject in subjects}
    subjects += [
        replace(
            by_name[f"{app} uvicorn {kind}"], name=f"{app}, {most}/s, uvicorn {kind}", most=most
        )
        for kind, most in (("SSE", EVENTSTREAM_RATE), ("WebSocket", CHANNELS_RATE))
        for app in ("bare", "live")
    ]
    subjects += [
        Subject(
            f"django-eventstream {server} SSE",
            False,
            _python("eventstream", server),
            "/events/",
            "stream-open",
            env={"BENCH_APP": "django_eventstream"},
            is_django=True,
            most=EVENTSTREAM_RATE,
        )
        for server in ("uvicorn", "daphne")
    ]
    subjects += [
        Subject(
            f"Channels consumer, {layer} layer, uvicorn WebSocket",
            True,
            _python("consumer", "uvicorn"),
            "/",
            " 101 ",
            env={
                "BENCH_APP": "channels",
                "BENCH_LAYER": backend,
                **({"BENCH_REDIS": redis_url} if layer != "memory" else {}),
            },
            is_django=True,
            most=CHANNELS_RATE,
        )
        for layer, backend in LAYERS.items()
    ]
    for socket, opened in ((False, "200 OK"), (True, " 101 ")):
        kind = "WebSocket" if socket else "SSE"
        subjects.append(Subject(f"Node {kind}", socket, _node, "/", opened, is_there=_has_node))
        subjects.append(
            Subject(
                f"nchan {kind}",
                socket,
                _nchan,
                "/",
                opened,
                publish_at="/publish",
                is_there=_has_nchan,
            )
        )
    return subjects
