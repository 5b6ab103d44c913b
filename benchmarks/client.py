"""How smooth a page stays while events flood it.

A small server writes events at a steady rate for some seconds, over Server-Sent Events and over a
WebSocket, to pages in a real Chromium. A handler writes each event into one of twenty cells. The page
notes the time of every frame that it paints, and tasks of more than 50 ms; the figures are the gaps
between two frames. Beside `live.js` stand the same page while nothing comes, and what a browser has by
itself: a bare EventSource and a bare WebSocket, with `JSON.parse` and the same handler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from playwright.sync_api import Browser, Page, sync_playwright
from websockets.asyncio.server import ServerConnection, serve

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import report
from tests.support.browsers import launch_options

STATIC = ROOT / "django_live/static/django_live"
WARM_UP = 1
"""Seconds at the beginning that do not count."""
TICK = 0.01

PAGE = """<!doctype html><script src="/live.js" data-events="{events}" data-more="/live-more.js" defer></script>
<script src="/app.js" defer></script><table><tr id="cells"></tr></table>"""
APP = """
const cells = Array.from({ length: 20 }, () => document.querySelector("#cells").insertCell());
const events = document.querySelector("[data-events]").dataset.events;
Object.assign(window, { count: 0, wrong: 0, gaps: [], longTasks: 0 });

function tick({ n, text }) {
  if (n !== ++count) wrong += 1;
  cells[n % 20].textContent = n + " " + text;
}

window.begin = {
  "nothing": () => {},
  "live.js, SSE": () => live.subscribe("flood", { tick }),
  "live.js, WebSocket": () => live.subscribe("flood", { tick }, { transport: "ws" }),
  "bare EventSource": () => {
    new EventSource(events).addEventListener("tick", ({ data }) => tick(JSON.parse(data)));
  },
  "bare WebSocket": () => {
    const socket = new WebSocket(events.replace("http", "ws"), "live.1");
    socket.onopen = () => socket.send('{"ref": 1}');
    socket.onmessage = ({ data }) => {
      for (const line of data.split("\\n")) {
        const { event, data } = line ? JSON.parse(line) : {};
        if (event === "tick") tick(data);
      }
    };
  },
};

new PerformanceObserver((list) => (longTasks += list.getEntries().length)).observe({ type: "longtask" });
let last = performance.now();
requestAnimationFrame(function frame(now) {
  gaps.push(now - last);
  last = now;
  requestAnimationFrame(frame);
});
"""


def event_of(n: int) -> dict[str, object]:
    return {"n": n, "text": "x" * 120}


async def flood(total: int, rate: int, write: Callable[[list[int]], Awaitable[None]]) -> None:
    """Calls `write` with the numbers that are due, until all are out."""
    start, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - start) * rate))
        if due > sent:
            await write(list(range(sent + 1, due + 1)))
            sent = due
        await asyncio.sleep(TICK)


def sse_frame(n: int) -> bytes:
    data = json.dumps(event_of(n))
    return f"event: tick\ntopic: flood\ndata: {data}\nid: k.e.{n}.sealseal\n\n".encode()


def ws_frame(n: int) -> str:
    event = {"event": "tick", "topic": "flood", "data": event_of(n), "id": f"k.e.{n}.sealseal"}
    return json.dumps(event) + "\n"


class Site:
    """The page, its scripts, and both streams, on two ports of a loop of their own."""

    def __init__(self, total: int, rate: int) -> None:
        self.total, self.rate = total, rate
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.http, self.ws = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self) -> tuple[int, int]:
        http = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._socket_server = serve(
            self._socket, "127.0.0.1", 0, subprotocols=["live.1"], compression=None
        )  # type: ignore[list-item]
        ws = await self._socket_server
        return http.sockets[0].getsockname()[1], next(iter(ws.sockets)).getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = unquote(head.split(b" ", 2)[1].decode())
        if path.startswith("/live/events/"):
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            )
            opening = {"connection": "c", "heartbeat": 20, "topics": ["flood"]}
            writer.write(f"event: stream-open\ndata: {json.dumps(opening)}\n\n".encode())

            async def write(numbers: list[int]) -> None:
                writer.write(b"".join(map(sse_frame, numbers)))
                await writer.drain()

            await flood(self.total, self.rate, write)
            await reader.read()  # until the page goes
        else:
            kind, body = self._file(path)
            size = f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n"
            writer.write(f"HTTP/1.1 200 OK\r\n{size}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    def _file(self, path: str) -> tuple[str, bytes]:
        if path == "/app.js":
            return "text/javascript", APP.encode()
        if path in ("/live.js", "/live-more.js"):
            return "text/javascript", (STATIC / path[1:]).read_bytes()
        events = (
            f"http://127.0.0.1:{self.ws}/live/events/" if "WebSocket" in path else "/live/events/"
        )
        return "text/html", PAGE.format(events=events).encode()

    async def _socket(self, socket: ServerConnection) -> None:
        opening = {"connection": "w", "heartbeat": 20, "retry": 2000, "version": 1, "topics": []}
        await socket.send(json.dumps({"event": "stream-open", "data": opening}) + "\n")
        ref = json.loads(await socket.recv())["ref"]
        reply = {"topics": ["flood"], "errors": []}
        await socket.send(json.dumps({"event": "stream-reply", "ref": ref, "data": reply}) + "\n")

        async def write(numbers: list[int]) -> None:
            await socket.send("".join(map(ws_frame, numbers)))

        await flood(self.total, self.rate, write)
        await socket.wait_closed()


def measure(browser: Browser, site: Site, what: str, seconds: int) -> dict[str, Any]:
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{site.http}/{what}")
    page.evaluate("what => void begin[what]()", what)
    if what == "nothing":
        begin, end = "count === 0", "window.isOver"
        page.evaluate("ms => void setTimeout(() => (window.isOver = true), ms)", seconds * 1000)
    else:
        begin, end = f"count > {site.rate * WARM_UP}", f"count >= {site.total}"
    page.wait_for_function(begin, timeout=60_000)
    already = page.evaluate("gaps.length = longTasks = 0, count")
    began = time.monotonic()
    page.wait_for_function(end, timeout=(seconds + 60) * 1000)
    took = time.monotonic() - began
    row = {"what": what, **figures_of(page, already, took)}
    page.close()
    return row


def figures_of(page: Page, already: int, took: float) -> dict[str, Any]:
    gaps, count, wrong, long_tasks = page.evaluate("[gaps, count, wrong, longTasks]")
    gaps.sort()
    return {
        "events": count,
        "out of order": wrong,
        "events/s": round((count - already) / took),
        "frames": len(gaps),
        "median_ms": round(gaps[len(gaps) // 2], 1),
        "p99_ms": round(gaps[len(gaps) * 99 // 100], 1),
        "longest_ms": round(gaps[-1], 1),
        "over 50 ms": sum(gap > 50 for gap in gaps),
        "long tasks": long_tasks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5000, help="events a second")
    parser.add_argument("--seconds", type=int, default=8)
    wanted = parser.parse_args()
    site = Site(wanted.rate * wanted.seconds, wanted.rate)
    kinds = (
        "nothing",
        "live.js, SSE",
        "bare EventSource",
        "live.js, WebSocket",
        "bare WebSocket",
    )
    with sync_playwright() as driver:
        browser = driver.chromium.launch(**launch_options())
        rows = [measure(browser, site, kind, wanted.seconds) for kind in kinds]
        browser.close()
    report("client", rows)


if __name__ == "__main__":
    main()
