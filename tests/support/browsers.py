"""A real browser for tests: Playwright's plain API, on a thread of its own.

Playwright's synchronous API keeps an event loop running on the thread that uses it. On the test's
thread that would break what these tests are about: Django's ORM and `publish()` refuse to be called
under a running loop, and pytest-asyncio could not start its own. So Playwright lives on one worker
thread, and tests hold stand-ins that carry each call over there. To a test they look like the
objects they stand for::

    def test_the_page_follows(page: Page, expect: Expect) -> None:
        page.goto(server.url)
        Order.objects.filter(pk=1).update(status="paid")      # the ORM works as always
        expect(page.locator("#status")).to_have_text("paid")

A function that is handed to the browser (`page.on("console", …)`, a predicate) runs on the
browser's thread with the real objects.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, cast

import playwright.sync_api
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.chromium import find_chromium, find_headless_shell
from tests.support.requirements import require

FLAGS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)

Expect: TypeAlias = Callable[..., Any]
NewContext: TypeAlias = Callable[..., BrowserContext]


class BrowserThread:
    """The one thread that Playwright's objects live on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="browser")

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run it there with the stand-ins' real objects; what comes back is stood in for."""
        args = tuple(_real(value) for value in args)
        kwargs = {key: _real(value) for key, value in kwargs.items()}
        return self.wrap(self._pool.submit(function, *args, **kwargs).result())

    def wrap(self, value: Any) -> Any:
        """A stand-in for an object of Playwright's, also inside lists; anything else as it is."""
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        if callable(value) or type(value).__module__.startswith("playwright."):
            return StandIn(value, self)
        return value

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


class StandIn:
    """Carries every use of `real` over to its thread."""

    def __init__(self, real: Any, thread: BrowserThread) -> None:
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_thread", thread)

    def __getattr__(self, name: str) -> Any:
        return self._thread.call(getattr, self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._thread.call(setattr, self._real, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._thread.call(self._real, *args, **kwargs)

    def __enter__(self) -> Any:
        return self._thread.call(self._real.__enter__)

    def __exit__(self, *error: object) -> Any:
        return self._thread.call(self._real.__exit__, *error)

    def __repr__(self) -> str:
        return f"<{self._thread.call(repr, self._real)} on the browser's thread>"


def _real(value: Any) -> Any:
    if isinstance(value, StandIn):
        return value._real
    if isinstance(value, list | tuple):
        return type(value)(_real(item) for item in value)
    if isinstance(value, dict):
        return {key: _real(item) for key, item in value.items()}
    return value


def launch_options() -> dict[str, Any]:
    """How Chromium is started here: headless; as root it cannot make a sandbox."""
    flags = list(FLAGS)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    return {"executable_path": find_chromium(), "headless": True, "args": flags}


@pytest.fixture(scope="session")
def browser_thread() -> Iterator[BrowserThread]:
    """The thread that the browser of this run lives on."""
    thread = BrowserThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def browser(browser_thread: BrowserThread) -> Iterator[Browser]:
    """One Chromium for the whole run. Leaves the test out where there is none."""
    require("chromium")
    manager = playwright.sync_api.sync_playwright()
    driver = browser_thread.call(manager.start)
    options = launch_options()
    if shell := find_headless_shell():
        options["executable_path"] = shell
    chromium = driver.chromium.launch(**options)
    yield cast(Browser, chromium)
    chromium.close()
    driver.stop()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[NewContext]:
    """`new_context(**options)` opens a browser profile of its own, closed after the test."""
    contexts: list[BrowserContext] = []

    def open_one(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_context: NewContext) -> Page:
    """A fresh page in a profile of its own."""
    return new_context().new_page()


@pytest.fixture(scope="session")
def expect(browser_thread: BrowserThread) -> Expect:
    """Playwright's waiting assertions: `expect(page.locator("p")).to_have_text("paid")`."""
    return cast(Expect, browser_thread.wrap(playwright.sync_api.expect))
