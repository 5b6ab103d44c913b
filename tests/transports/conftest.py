"""Django's own application with the wrapper around it, over a log in memory; no database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from django.test import override_settings

from django_live.asgi import get_live_application
from django_live.core import sweeping
from django_live.core.runtime import running_runtime

Settings = Callable[..., None]


@pytest.fixture
def settings_in_force(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """``settings_in_force(MIDDLEWARE=…)``; ``DJANGO_LIVE`` adds to the memory store."""
    # The sweep would ask a database; there is none in these tests.
    monkeypatch.setattr(sweeping, "sweep", lambda *args: 0)
    changes: list[Any] = []

    def change(**values: Any) -> None:
        values["DJANGO_LIVE"] = {"STORE": "memory", **values.get("DJANGO_LIVE", {})}
        changed = override_settings(**values)
        changed.enable()
        changes.append(changed)

    change()
    yield change
    for changed in reversed(changes):
        changed.disable()


@pytest_asyncio.fixture
async def site(settings_in_force: Settings) -> AsyncIterator[Callable[..., Any]]:
    """``site(MIDDLEWARE=…)``: the application under these settings."""

    def make(**settings: Any) -> Any:
        settings_in_force(**settings)
        return get_live_application()

    yield make
    live = running_runtime()
    if live is not None:
        assert not live.hub.connections, "a stream was left open"
        await live.stop()
