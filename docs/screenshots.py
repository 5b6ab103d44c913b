"""The pictures of the documentation, made of the example with its data: `make screenshots`.

Needs Chromium. They are small: a part of a window each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page, sync_playwright  # noqa: E402

from tests.support.browsers import launch_options  # noqa: E402
from tests.support.databases import server_database  # noqa: E402
from tests.support.servers import Server  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IMAGES = ROOT / "docs/images"
SETTINGS, APPLICATION = "example_project.settings", "example_project.asgi:application"
SIZE = {"width": 800, "height": 500}

PICTURES = {
    "board": ("staff", "/"),
    "dashboard": ("staff", "/boards/"),
    "chat": ("staff", "/chat/1/"),
}
"""By its file's name: who looks, and at which address."""


def main() -> None:
    """Make all of them anew."""
    with (
        tempfile.TemporaryDirectory() as folder,
        server_database("sqlite", Path(folder), SETTINGS) as database,
        Server("uvicorn", APPLICATION, env=database.env) as server,
        sync_playwright() as run,
    ):
        database.manage("demo_data")
        browser = run.chromium.launch(**launch_options())
        for name, (user, path) in PICTURES.items():
            picture(browser, server, name, user, path)
        browser.close()


def picture(browser: Browser, server: Server, name: str, user: str, path: str) -> None:
    """One page, as one who is signed in sees it once it is live."""
    context = browser.new_context(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
    page: Page = context.new_page()
    page.goto(f"{server.url}/login/")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", f"demo-{user}")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{server.url}/")
    page.goto(f"{server.url}{path}")
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    page.wait_for_timeout(4000)  # charts fill
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


if __name__ == "__main__":
    main()
