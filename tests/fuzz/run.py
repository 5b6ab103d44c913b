"""`python -m tests.fuzz.run 1000000`: so many inputs, to the parsers and, one in fifty, through the whole
site in this process. Ends with 1 and a list of what went wrong: an exception that nobody foresaw, an
answer of 500, a traceback in the log, something that stayed behind, memory that grew.

`--plant` makes one parser fail for some inputs: the run has to find that (the negative control).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

from tests.fuzz import inputs

Rng = random.Random
WHOLE_SITE = 50
"""One input in so many goes through the whole site."""
WARM_UP = 0.3
"""The part of a run after which memory is measured for the first time."""
MAY_GROW_KB = 24_000
SOCKET_MESSAGES = 20


class Faults(logging.Handler):
    """What went wrong. Of the log: tracebacks and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        # Django refuses a query that is no UTF-8 before anything of ours is asked, and says so.
        if record.name == "django.request" and getattr(record, "status_code", 0) == 400:
            return
        if record.exc_info or record.levelno >= logging.ERROR:
            self.add(f"log {record.name}: {record.getMessage()[:200]}", record.exc_info)

    def add(self, what: str, example: object) -> None:
        self.found[what] += 1
        self.examples.setdefault(what, repr(example)[:1000])


class Parsers:
    """The parsers alone. What they refuse they refuse by an exception of their own."""

    def __init__(self, places: list[str], rng: Rng, *, plant: bool) -> None:
        from django.test import RequestFactory

        from django_live.core.topics import registry
        from django_live.exceptions import InvalidTopic, MalformedCursor
        from django_live.parts import live_due
        from django_live.transports.actions import BadAction, Parts, read_text
        from django_live.transports.binary import MalformedFrame, read_frame
        from django_live.transports.tickets import redeem

        self.rng = rng
        requests = RequestFactory()
        parts = Parts()

        def text() -> str:
            return inputs.message(places, rng).decode("utf-8", "replace")

        def cursor() -> None:
            from django_live.core.events import Cursor

            str(Cursor.parse(inputs.cursor(places, rng).decode("utf-8", "replace")))

        def frame() -> None:
            data = inputs.frame(rng)
            if plant and data[:1] != b"\1":
                raise KeyError("planted")
            read_frame(data)

        def refresh() -> None:
            header = dict(inputs.headers(places, rng)).get(b"x-live-refresh", b"count")
            request = requests.get("/", headers={"X-Live-Refresh": header.decode("latin-1")})
            live_due(request, "count")

        def resolve() -> None:
            registry.resolve(inputs.mutated(b"orders/12", rng).decode("utf-8", "replace"), "")

        foreseen = (BadAction, MalformedFrame, MalformedCursor, InvalidTopic)
        self.foreseen: tuple[type[Exception], ...] = foreseen
        self.all: list[Callable[[], Any]] = [
            cursor,
            frame,
            refresh,
            resolve,
            lambda: read_text(text()),
            lambda: parts.read(inputs.frame(rng), 1024),
            lambda: redeem(inputs.mutated(b"aBc:1tE5xq:cUrV", rng).decode("utf-8", "replace")),
        ]

    def once(self, faults: Faults) -> str:
        parser = self.rng.choice(self.all)
        try:
            parser()
        except self.foreseen:
            return "refused"
        except Exception as error:
            faults.add(f"{type(error).__name__} from a parser", error)
        return "read"


class WholeSite:
    """The application as servers call it."""

    def __init__(self, places: list[str], rng: Rng) -> None:
        from tests.asgi import application

        self.application: Any = application
        self.places = places
        self.rng = rng

    async def once(self) -> str:
        """One request or WebSocket; how it was answered. Raises TimeoutError when it was not."""
        async with asyncio.timeout(60):
            if self.rng.random() < 0.05:
                return await self._socket()
            return await self._request()

    async def _request(self) -> str:
        rng = self.rng
        room = rng.choice(["events", "poll", "poll", "send", "tickets", "health", "ws"])
        method = rng.choice(["GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT"])
        body = b""
        own = [(b"host", b"testserver")]
        if room in ("send", "tickets"):
            method = "POST" if rng.random() < 0.8 else method
            is_binary = rng.random() < 0.3
            body = inputs.frame(rng) if is_binary else inputs.message(self.places, rng)
            kind = b"application/octet-stream" if is_binary else b"application/json"
            # What has been authenticated by no cookie needs no token.
            own += [(b"content-type", kind), (b"cookie", b"csrftoken=" + b"a" * 32)]
            own.append((b"x-csrftoken", b"a" * 32))
        names = ["topic", "topic", "cursor", "lastEventId", "wait", "ticket"]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": f"/live/{room}/",
            "raw_path": f"/live/{room}/".encode(),
            "query_string": inputs.query(names, self.places, rng),
            "root_path": "",
            "headers": own + inputs.headers(self.places, rng),
            "client": ("127.0.0.1", 9),
            "server": ("testserver", 80),
        }
        return f"{room} {await self._answer(scope, body)}"

    async def _answer(self, scope: dict[str, Any], body: bytes) -> int:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
        status = 0

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message.get("more_body"):  # a stream that has begun
                inbox.put_nowait({"type": "http.disconnect"})

        await self.application(scope, inbox.get, send)
        return status

    async def _socket(self) -> str:
        rng = self.rng
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        inbox.put_nowait({"type": "websocket.connect"})
        for _ in range(SOCKET_MESSAGES):
            if rng.random() < 0.5:
                said: dict[str, Any] = {"bytes": inputs.frame(rng)}
            else:
                said = {"text": inputs.message(self.places, rng).decode("utf-8", "replace")}
            inbox.put_nowait({"type": "websocket.receive", **said})
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        codes = []

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.close":
                codes.append(message["code"])

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/live/ws/",
            "raw_path": b"/live/ws/",
            "query_string": inputs.query(["ticket", "topic"], self.places, rng),
            "root_path": "",
            "headers": [(b"host", b"testserver"), *inputs.headers(self.places, rng)],
            "client": ("127.0.0.1", 9),
            "server": ("testserver", 80),
            "subprotocols": rng.choice([[], ["live.1"], ["live.2"], ["x", "live.1"]]),
        }
        await self.application(scope, inbox.get, send)
        return f"socket {codes}"


def rss_kb() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)


async def fuzz(count: int, seed: int, *, plant: bool) -> dict[str, Any]:
    """Run it; what there is to report."""
    from django_live import apublish
    from django_live.core.runtime import runtime
    from tests.fuzz.places import genuine_places

    faults = Faults()
    logging.getLogger().addHandler(faults)
    await apublish("open/a", "said", 1)
    rng = Rng(seed)
    places = await genuine_places()
    parsers, site = Parsers(places, rng, plant=plant), WholeSite(places, rng)
    answers: Counter[str] = Counter()
    before, tasks = 0, 0
    for number in range(count):
        if number == int(count * WARM_UP):
            before, tasks = rss_kb(), len(asyncio.all_tasks())
        if number % WHOLE_SITE:
            answers[parsers.once(faults)] += 1
            continue
        try:
            answer = await site.once()
        except Exception as error:
            faults.add(f"{type(error).__name__} from the site", error)
            continue
        answers[answer] += 1
        if answer.endswith((" 500", " 0")):
            faults.add(f"answered by {answer}", "")
    await _settled(faults, tasks)
    grown = rss_kb() - before
    if grown > MAY_GROW_KB:
        faults.add(f"memory grew by {grown} kB", "")
    live = runtime()
    if live.hub.connections:
        faults.add(f"{len(live.hub.connections)} connections stayed", "")
    await live.stop()
    gc.collect()
    for what in _unraisable:
        faults.add(f"nobody caught {what}", "")
    report = {"inputs": count, "seed": seed, "grown_kb": grown, "answers": dict(answers)}
    return {**report, "faults": {k: [n, faults.examples[k]] for k, n in faults.found.items()}}


async def _settled(faults: Faults, tasks: int) -> None:
    """Wait until no more tasks are left than there were."""
    until = time.monotonic() + 20
    while (left := len(asyncio.all_tasks())) > tasks + 2:
        if time.monotonic() > until:
            faults.add(f"{left} tasks where there were {tasks}", asyncio.all_tasks())
            return
        await asyncio.sleep(0.1)


_unraisable: list[str] = []


def _shown(unraisable: Any) -> None:
    _unraisable.append(f"{unraisable.err_msg}: {unraisable.exc_value!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("inputs", type=int)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--plant", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    sys.unraisablehook = _shown  # a coroutine that nobody awaited, above all
    django.setup()
    report = asyncio.run(fuzz(chosen.inputs, chosen.seed, plant=chosen.plant))
    print(json.dumps(report, indent=1))  # noqa: T201
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
