"""Places that the site itself gave out: near misses of these are the interesting cursors."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.test import Client


async def genuine_places() -> list[str]:
    return await sync_to_async(_genuine_places)()


def _genuine_places() -> list[str]:
    answer = Client().get("/live/poll/?topic=open/a&topic=small/a&topic=snapshot/a&topic=rooms/a")
    assert answer.status_code == 200, answer.content
    return str(answer.json()["cursor"]).split(",")
