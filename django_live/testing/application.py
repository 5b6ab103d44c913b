"""How a test speaks with the project's ASGI application: as a server would, in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlencode

from django.test import Client

from ..core.runtime import running_runtime


async def ended(task: asyncio.Future[Any]) -> None:
    """Wait for what the application does with a connection that was given up; with the last one what
    runs beside it ends, too."""
    if not task.done():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(task, 5.0)
    live = running_runtime()
    if live is not None and not live.hub.connections:
        await live.stop()
    for _ in range(3):  # who waits for the disconnect gets its turn to end
        await asyncio.sleep(0)


def http_scope(path: str, query: list[tuple[str, str]], headers: dict[str, str]) -> dict[str, Any]:
    """An ASGI request for this address."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 50000),
    }


def cookies_of(client: Client | None, user: Any) -> str:
    """The header of a test client, or of somebody who is logged in. From a plain thread."""
    if user is not None:
        client = client or Client()
        client.force_login(user)
    if client is None:
        return ""
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in client.cookies.values())
