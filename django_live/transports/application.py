"""The ASGI application around the project's own: answers ``lifespan``, holds streams, passes the rest."""

from __future__ import annotations

import logging
from typing import Any

from ..core.background import background
from ..core.runtime import running_runtime, runtime
from . import drain
from .hold import Hold
from .sockets import Application, Receive, Scope, Send

logger = logging.getLogger("django_live.application")


class LiveApplication:
    """``answers_websockets``: whether the wrapped application takes WebSockets; Django's does not."""

    def __init__(self, application: Application, *, answers_websockets: bool) -> None:
        self._application = application
        self._answers_websockets = answers_websockets
        self._http = Hold(application)
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if not self._begun:  # Daphne has no lifespan: begin with the first request
                self._begin()
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and not self._answers_websockets:
            await receive()
            await send({"type": "websocket.close", "code": 4404})
        else:
            await self._application(scope, receive, send)

    def _begin(self) -> None:
        self._begun = True
        try:
            runtime()
        except Exception:
            # The site's pages must not suffer; streams are refused (see requests.plan_of).
            logger.exception("Live features are off: their settings do not work.")
        drain.install()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message: Any = await receive()
            if message["type"] == "lifespan.startup":
                self._begin()
                await send({"type": "lifespan.startup.complete"})
            else:
                live = running_runtime()
                if live is not None:
                    await live.stop()
                background.flush()
                await send({"type": "lifespan.shutdown.complete"})
                return
