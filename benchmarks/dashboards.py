"""Boards: 200 viewers of 1,000 changes a second, a snapshot of 10,000 rows, and what Chromium makes of it.

`python benchmarks/dashboards.py [--part server|browser]`. The server part runs in one process: a thread writes, the
viewers' sockets only count. CPU is that of the process, writer included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

VIEWERS, RATE, CHANGES, SECONDS, KEYS = 200, 5, 1_000, 10, 100
SNAPSHOT_ROWS = 10_000


def server() -> dict[str, Any]:
    import django
    from django.conf import settings

    settings.DJANGO_LIVE = {"STORE": "memory"}
    django.setup()
    return asyncio.run(_server())


async def _server() -> dict[str, Any]:
    from django_live.core.runtime import runtime
    from django_live.features.dashboards import set_rows
    from tests.features.dashboards.boards import Rows, Watcher

    live = runtime()
    loop = asyncio.get_running_loop()
    board = Rows()
    watchers = [await Watcher(board.at(RATE)).open(live) for _ in range(VIEWERS)]
    await asyncio.sleep(0.5)

    def write() -> None:
        began = time.perf_counter()
        for number in range(CHANGES * SECONDS):
            set_rows(board, {f"r{number % KEYS}": {"n": number, "name": "row"}})
            ahead = number / CHANGES - (time.perf_counter() - began)
            if ahead > 0.005:
                time.sleep(ahead)

    cpu, began = time.process_time(), time.perf_counter()
    await loop.run_in_executor(None, write)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await asyncio.sleep(1.0)
    count = CHANGES * SECONDS
    expected = {f"r{n % KEYS}": {"n": n, "name": "row"} for n in range(count - KEYS, count)}
    right = sum(watcher.shows == expected for watcher in watchers)
    frames = sum(len(watcher.frames) for watcher in watchers) / VIEWERS / took
    for watcher in watchers:
        watcher.leave(live)

    rows = {
        f"k{n}": {"name": f"row {n}", "a": n, "b": n / 7, "c": True} for n in range(SNAPSHOT_ROWS)
    }
    await loop.run_in_executor(None, lambda: set_rows(board, rows, replace=True))
    await asyncio.sleep(1.5)
    snapshots = []
    for _ in range(5):
        began = time.perf_counter()
        newcomer = await Watcher(board.at(RATE)).open(live)
        while b'"snapshot"' not in newcomer.sink.received:  # noqa: ASYNC110 - what a socket got
            await asyncio.sleep(0.001)
        snapshots.append((time.perf_counter() - began) * 1000)
        assert len(newcomer.shows) == SNAPSHOT_ROWS
        newcomer.leave(live)
    await live.stop()
    return {
        "viewers": VIEWERS,
        "changes a second": round(CHANGES * SECONDS / took),
        "frames a second and viewer": round(frames, 1),
        "share of a core": round(cpu / took, 3),
        "viewers whose last state is right": right,
        "snapshot of 10,000 rows, ms": [round(one) for one in snapshots],
    }


PAGE = """<!doctype html><html lang="en"><body>
<div id="place"></div><script>
const handlers = {};
window.live = { status: "live", onStatus: () => () => {}, subscribe(topic, given) {
  handlers[topic] = given; return { unsubscribe() {} }; } };
window.said = { run: "a", n: 0, age: 0 };
window.begin = (topic, data) => handlers[topic].snapshot({ ...said, ...data });
window.say = (topic, data) => { said.n += 1;
  handlers[topic]["*"]({ ...said, ...data }, { topic, type: "update" }); };
</script></body></html>"""
NOTHING = """async (seconds) => {
  let frames = 0; const until = performance.now() + seconds * 1000;
  await new Promise((done) => requestAnimationFrame(function next(now) {
    frames += 1; if (now < until) requestAnimationFrame(next); else done();
  }));
  return { frames: frames / seconds };
}"""
TABLE = """async (seconds) => {
  const heads = ["", "a", "b", "c", "d"].map((c) => `<th data-column="${c}">${c}</th>`).join("");
  place.innerHTML = `<live-table data-topic="t"><table><thead><tr>${heads}</tr></thead><tbody></tbody></table></live-table>`;
  const row = (n) => ({ a: n, b: n / 3, c: "text " + n, d: Math.random() });
  const rows = {}; for (let n = 0; n < 2000; n += 1) rows["k" + n] = row(n);
  begin("t", { rows });
  // What is measured are updates; 2,000 new rows at once cost more than one frame.
  const frame = () => new Promise(requestAnimationFrame);
  for (let n = 0; n < 5; n += 1) await frame();
  let frames = 0, worst = 0, before = performance.now(); const until = before + seconds * 1000;
  await new Promise((done) => requestAnimationFrame(function next(now) {
    worst = Math.max(worst, now - before); before = now; frames += 1;
    const set = {}; for (let n = 0; n < 50; n += 1) set["k" + Math.floor(Math.random() * 2000)] = row(n);
    say("t", { set, gone: [] });
    if (now < until) requestAnimationFrame(next); else done();
  }));
  return { frames: frames / seconds, worst };
}"""
CHART = """async (seconds) => {
  place.innerHTML = '<live-chart data-topic="c" data-kind="line" data-points="3600" style="width:800px"></live-chart>';
  const point = (n) => [n + 1, 1.7e9 + n, { a: Math.random(), b: 1 + Math.random(), c: 2, d: Math.sin(n / 9), e: 3 }];
  begin("c", { items: Array.from({ length: 3600 }, (_, n) => point(n)) });
  let n = 3600;
  await new Promise((done) => { const timer = setInterval(() => { say("c", { items: [point(n++)] }); }, 100);
    setTimeout(() => { clearInterval(timer); done(); }, seconds * 1000); });
  return {};
}"""


def browser() -> list[dict[str, Any]]:
    from playwright.sync_api import sync_playwright

    from tests.support.chromium import find_chromium

    script = (ROOT / "django_live/static/django_live/live-dashboards.js").read_text()
    style = (ROOT / "django_live/static/django_live/live-dashboards.css").read_text()
    results = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"], headless=True
        )
        for name, work in (
            ("a page on which nothing changes", NOTHING),
            ("table of 2,000 rows, 50 changed a frame", TABLE),
            ("chart of 5 x 3,600", CHART),
        ):
            page = chromium.new_page()
            page.set_content(PAGE)
            page.add_style_tag(content=style)
            page.add_script_tag(content=script)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU, not time
            before = _metrics(session)
            found = page.evaluate(work, SECONDS)
            after = _metrics(session)
            share = (after["TaskDuration"] - before["TaskDuration"]) / SECONDS
            results.append({"what": name, "share of a core": round(share, 3), **found})
            page.close()
        chromium.close()
    return results


def _metrics(session: Any) -> dict[str, float]:
    found = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["server", "browser"])
    part = parser.parse_args().part
    print("load", os.getloadavg(), "threads", threading.active_count())
    if part != "browser":
        print(json.dumps(server(), indent=1))
    if part != "server":
        print(json.dumps(browser(), indent=1))
