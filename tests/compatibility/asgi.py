"""The application below /site/, as a server hands it over that was told of a root path."""

import os
from typing import Any

from django_live.asgi import get_live_application

live = get_live_application()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan" and not os.environ.get("TEST_SCRIPT_NAME"):
        scope = {**scope, "root_path": "/site"}
    await live(scope, receive, send)
