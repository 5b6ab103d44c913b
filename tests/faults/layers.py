"""A channel layer that loses, repeats and reorders, and counts what it did."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer

LOSES, REPEATS, REORDERS = 0.20, 0.05, 0.10
LONGEST_DELAY = 0.2


class BadLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """Drops one message in five, repeats one in twenty, and lets one in ten be overtaken. It writes a
    letter for each into the file that LIVE_TEST_LAYER_FAULTS names, while the file's neighbour
    `….on` is there. LIVE_TEST_LAYER_LOSES is another share that it drops."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._journal = Path(os.environ["LIVE_TEST_LAYER_FAULTS"])
        self._switch = self._journal.with_name(self._journal.name + ".on")
        self._loses = float(os.environ.get("LIVE_TEST_LAYER_LOSES", LOSES))
        self._late: set[asyncio.Task[None]] = set()

    def _note(self, letter: str) -> None:
        with self._journal.open("a") as journal:
            journal.write(letter)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        send = self._get_layer().group_send
        # Probes pass: a link that is up and loses is harder to notice than one that is down.
        if not self._switch.exists() or message["type"] == "live.probe":
            await send(group, message)
            return
        chance = random.random()
        if chance < self._loses:
            self._note("l")
        elif chance < self._loses + REPEATS:
            self._note("d")
            await send(group, message)
            await send(group, message)
        elif chance < self._loses + REPEATS + REORDERS:
            self._note("o")
            task = asyncio.ensure_future(self._send_later(send, group, message))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        else:
            await send(group, message)

    async def _send_later(self, send: Any, group: str, message: dict[str, Any]) -> None:
        await asyncio.sleep(random.uniform(0.02, LONGEST_DELAY))
        await send(group, message)
