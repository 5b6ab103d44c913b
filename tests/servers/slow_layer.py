"""Channel layers that take their time to send."""

import asyncio
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer


class SlowLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """Half a second for each message."""

    async def group_send(self, group: str, message: Any) -> None:
        await asyncio.sleep(0.5)
        await self.__getattr__("group_send")(group, message)


class StuckLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """All the time there is."""

    async def group_send(self, group: str, message: Any) -> None:
        await asyncio.Event().wait()
