"""A process that watches a board whose source tells which process ran it: one line for each new value."""

from __future__ import annotations

import asyncio
import os
import sys

import django

django.setup()

from django_live.core.runtime import runtime  # noqa: E402
from django_live.features.dashboards import following, sources  # noqa: E402
from tests.features.dashboards.boards import DO, Computed, Watcher  # noqa: E402

sources.LEASE = 1.0
following.CHECK = 0.1  # the channel layer of the tests reaches no other process
DO["compute"] = lambda: {"pid": os.getpid(), "run": DO["runs"]}


async def watch() -> None:
    watcher = await Watcher(Computed()).open(runtime())
    said = None
    while True:
        if watcher.shows not in (said, None):
            said = watcher.shows
            sys.stdout.write(f"{said['pid']}\n")
            sys.stdout.flush()
        await asyncio.sleep(0.02)


asyncio.run(watch())
