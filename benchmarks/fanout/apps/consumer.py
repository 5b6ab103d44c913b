"""The consumer of the Channels tutorial, in its asynchronous form, on the layer that the settings name."""

import json
import os

os.environ["BENCH_APP"] = "channels"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.fanout.apps.settings")

from typing import Any

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

from benchmarks.fanout.apps.publishing import with_publisher


class Ticks(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("ticks", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("ticks", self.channel_name)

    async def tick(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(event["data"]))


sockets = URLRouter([re_path("", Ticks.as_asgi())])
inner = ProtocolTypeRouter({"http": django, "websocket": AuthMiddlewareStack(sockets)})


async def publish(data: dict[str, Any], _number: int) -> None:
    await get_channel_layer().group_send("ticks", {"type": "tick", "data": data})


application = with_publisher(inner, publish)
