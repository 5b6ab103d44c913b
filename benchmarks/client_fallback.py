"""How long a page needs until it is live where a network forbids WebSockets.

A real server, a network before it that spoils sockets in one way, and in a real Chromium a page with an
interactive topic: from the script's start until the status is `live`, for a browser that has never been
here. The control is the same page over a network that lets sockets through.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import report
from tests.support.browsers import launch_options
from tests.support.databases import server_database
from tests.support.network import Mode, Network
from tests.support.servers import Server

SETTINGS = "tests.browser.transport_settings"
PATIENCE = 30_000
"""Milliseconds."""
NETWORKS: tuple[Mode, ...] = tuple(mode for mode in get_args(Mode) if mode != "down")


def time_until_live(browser: Browser, network: Network) -> tuple[float, str]:
    """Milliseconds, and the address that carries it."""
    context = browser.new_context(bypass_csp=True)  # Playwright's own waiting needs `eval`
    page = context.new_page()
    page.goto(f"{network.url}/listen/?topic={quote('rooms/5')}")
    page.wait_for_function("live.status === 'live'", timeout=PATIENCE)
    took: float = page.evaluate("liveAfter - startedAt")
    carrier = [path for path in network.seen if "/live/" in path][-1].split("?")[0]
    context.close()
    return took, carrier


def measure(browser: Browser, server: Server, mode: Mode, times: int) -> dict[str, Any]:
    with Network(server.host, server.port) as network:
        network.mode = mode
        found = [time_until_live(browser, network) for _ in range(times)]
    milliseconds = sorted(took for took, _ in found)
    return {
        "network": mode,
        "over": " ".join(sorted({carrier for _, carrier in found})),
        "pages": times,
        "median_ms": round(statistics.median(milliseconds)),
        "longest_ms": round(milliseconds[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="pages for each network")
    times = parser.parse_args().times
    with (
        tempfile.TemporaryDirectory() as folder,
        server_database("sqlite", Path(folder), SETTINGS) as database,
        Server("uvicorn", env={**database.env, "DJANGO_SETTINGS_MODULE": SETTINGS}) as server,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(**launch_options())
        rows = [measure(browser, server, mode, times) for mode in NETWORKS]
        browser.close()
    report("client_fallback", rows)


if __name__ == "__main__":
    main()
