"""The tests' site, which also says at `/census/` what is alive in its process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from pathlib import Path
from typing import Any

from django_live.core.runtime import running_runtime
from django_live.transports import limits
from tests.asgi import application as site

LEAKS = os.environ.get("LIVE_TEST_LEAKS")
"""Keep something of each connection: the negative control."""
kept: list[Any] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/census/":
        await _answer(send)
        return
    if LEAKS and scope["type"] != "lifespan":
        kept.append((dict(scope), receive, send))
    await site(scope, receive, send)


async def _answer(send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(alive()).encode()})


def alive() -> dict[str, int]:
    live = running_runtime()
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "connections": len(live.hub.connections) if live else 0,
        "topics": len(live.hub.feeds) if live else 0,
        "places": limits.places.taken,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }
