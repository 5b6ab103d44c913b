"""How smooth a page stays while events flood it: `python -m benchmarks.client_flood [events per second]`.

A small server writes events at a steady rate for some seconds, over Server-Sent Events and over a
WebSocket. In Chromium, `live.js` calls a handler that writes each event into one of twenty cells. The
page notes the time of every frame that it paints; the figure is the longest gap between two of them.
The control is the same page while nothing comes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from websockets.asyncio.server import ServerConnection, serve

from tests.support.browsers import launch_options

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 8
WARM_UP = 1
STATIC = ROOT / "django_live/static/django_live"
TICK = 0.01

PAGE = """<!doctype html><script src="/live.js" data-events="{events}" data-more="/live-more.js" defer></script>
<script src="/app.js" defer></script><table><tr id="cells"></tr></table>"""
APP = """
const cells = Array.from({ length: 20 }, () => document.querySelector("#cells").insertCell());
window.count = 0;
window.wrong = 0;
window.gaps = [];
window.begin = (transport) => live.subscribe("flood", { tick({ n, text }) {
  if (n !== ++count) wrong += 1;
  cells[n % 20].textContent = n + " " + text;
} }, { transport });
let last = performance.now();
requestAnimationFrame(function frame(now) {
  gaps.push(now - last);
  last = now;
  requestAnimationFrame(frame);
});
"""


def event_of(n: int) -> dict[str, object]:
    return {"n": n, "text": "x" * 120}


async def flood(rate: int, write: Callable[[list[int]], Awaitable[None]]) -> None:
    """Calls `write` with the numbers that are due, until all are out."""
    start, sent = time.monotonic(), 0
    while sent < rate * SECONDS:
        due = min(rate * SECONDS, int((time.monotonic() - start) * rate))
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

    def __init__(self, rate: int) -> None:
        self.rate = rate
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
        path = head.split(b" ", 2)[1].decode()
        if path.startswith("/live/events/"):
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            )
            opening = {"connection": "c", "heartbeat": 20, "topics": ["flood"]}
            writer.write(f"event: stream-open\ndata: {json.dumps(opening)}\n\n".encode())

            async def write(numbers: list[int]) -> None:
                writer.write(b"".join(map(sse_frame, numbers)))
                await writer.drain()

            await flood(self.rate, write)
            await reader.read()
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
        events = f"http://127.0.0.1:{self.ws}/live/events/" if path == "/ws" else "/live/events/"
        return "text/html", PAGE.format(events=events).encode()

    async def _socket(self, socket: ServerConnection) -> None:
        opening = {"connection": "w", "heartbeat": 20, "retry": 2000, "version": 1, "topics": []}
        await socket.send(json.dumps({"event": "stream-open", "data": opening}) + "\n")
        ref = json.loads(await socket.recv())["ref"]
        reply = {"topics": ["flood"], "errors": []}
        await socket.send(json.dumps({"event": "stream-reply", "ref": ref, "data": reply}) + "\n")

        async def write(numbers: list[int]) -> None:
            await socket.send("".join(map(ws_frame, numbers)))

        await flood(self.rate, write)
        await socket.wait_closed()


def gaps_after(page: Page, condition: str) -> list[float]:
    """Milliseconds between the frames painted from now until the condition holds."""
    page.evaluate("gaps.length = 0")
    page.wait_for_function(condition, timeout=(SECONDS + 60) * 1000)
    found: list[float] = page.evaluate("gaps")
    return found


def say(what: str, gaps: list[float], more: str = "") -> None:
    gaps.sort()
    over = sum(gap > 50 for gap in gaps)
    print(
        f"{what:8} {len(gaps):4} frames, median {gaps[len(gaps) // 2]:5.1f} ms, "
        f"99th {gaps[len(gaps) * 99 // 100]:5.1f} ms, longest {gaps[-1]:5.1f} ms, over 50 ms: {over}{more}"
    )


def main() -> None:
    rate = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    site = Site(rate)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(**launch_options())
        for what in ("nothing", "sse", "ws"):
            page = browser.new_context().new_page()
            page.goto(f"http://127.0.0.1:{site.http}/{what}")
            if what == "nothing":
                page.evaluate("setTimeout(() => (window.done = true), 5000), undefined")
                say(what, gaps_after(page, "window.done"))
                continue
            page.evaluate("transport => void begin(transport)", what)
            page.wait_for_function(f"count > {rate * WARM_UP}")
            begun = time.monotonic()
            gaps = gaps_after(page, f"count >= {rate * SECONDS}")
            took = time.monotonic() - begun
            wrong = page.evaluate("wrong")
            say(
                what,
                gaps,
                f"; {rate * (SECONDS - WARM_UP) / took:.0f} events/s, {wrong} out of order",
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
