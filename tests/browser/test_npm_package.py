"""The package as npm would publish it: packed, installed into a Vite app, built, and run in a browser."""

from __future__ import annotations

import mimetypes
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route

from tests.browser.listening import ROOM, say, wait_until
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT, Server

pytestmark = [requires("chromium"), requires("npm")]

CLIENT = PROJECT_ROOT / "client"
PACKAGE_JSON = """{"private": true, "type": "module"}"""
INDEX = """<!doctype html><html lang="en"><title>App</title>
<live-status></live-status><script type="module" src="/main.ts"></script></html>"""
MAIN = """
import { type CallError, live, type Reset, type Subscription } from "django-live-features";
import "django-live-features/live-status.css";

interface Counted { n: number }
declare global { interface Window { heard: number[]; failure: string } }

window.heard = [];
live.connect({ base: "/live" });
const subscription: Subscription = live.subscribe("rooms/5", {
  counted: ({ n }: Counted) => void window.heard.push(n),
  reset: ({ reason }: Reset) => console.log(reason),
}, { transport: "ws" });
live.call<number[]>("rooms/5", "reject").catch((error: CallError) => (window.failure = error.code));
Object.assign(window, { live, subscription });
"""
WRONG = """
import { live } from "django-live-features";
live.connect({ base: 7 });
"""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=110
    )


def succeed(command: list[str], folder: Path) -> str:
    done = run(command, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built app."""
    folder = tmp_path_factory.mktemp("app")
    packed = succeed(["npm", "pack", "--silent", "--pack-destination", str(folder)], CLIENT)
    for name, text in {
        "package.json": PACKAGE_JSON,
        "index.html": INDEX,
        "main.ts": MAIN,
        "wrong.ts": WRONG,
    }.items():
        (folder / name).write_text(text)
    archive = f"./{packed.strip().splitlines()[-1]}"
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--silent"]
    succeed([*install, archive, "vite@^7"], folder)
    succeed(["npx", "vite", "build", "--base", "/app/", "--logLevel", "warn"], folder)
    return folder


def test_the_types_say_what_is_right_and_what_is_not(app: Path) -> None:
    options = ["--noEmit", "--strict", "--module", "esnext", "--moduleResolution", "bundler"]
    tsc = [str(CLIENT / "node_modules/.bin/tsc"), *options, "--skipLibCheck", "--target", "es2022"]
    succeed([*tsc, "--types", "vite/client", "main.ts"], app)
    wrong = run([*tsc, "wrong.ts"], app)
    assert wrong.returncode
    assert "Type 'number' is not assignable" in wrong.stdout


def test_the_built_app_is_live(server: Server, app: Path, page: Page) -> None:
    dist = app / "dist"

    def serve(route: Route) -> None:
        path = route.request.url.partition("/app/")[2]
        file = dist / (path or "index.html")
        kind = mimetypes.guess_type(file.name)[0] or "text/plain"
        route.fulfill(body=file.read_bytes(), content_type=kind)

    page.route("**/app/**", serve)
    page.goto(f"{server.url}/app/")
    wait_until(page, "window.subscription?.state === 'live'")
    say(server, ROOM, 1, 2)
    wait_until(page, "heard.length === 2")
    wait_until(page, "window.failure === 'closed-today'")
    assert page.evaluate("heard") == [1, 2]
    assert page.evaluate("getComputedStyle(document.querySelector('live-status')).position") == (
        "fixed"
    )


def test_the_package_holds_the_client_its_types_and_nothing_else(app: Path) -> None:
    installed = app / "node_modules/django-live-features"
    files = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    kinds = {name for name in files if not name.startswith("dist/")}
    assert kinds == {"package.json", "README.md"}
    assert {"dist/live.mjs", "dist/live.d.ts", "dist/live-status.css"} <= files
