"""The ASGI application around the project's own: answers ``lifespan``, holds streams, serves the
WebSocket, passes the rest."""

from __future__ import annotations

import logging
from typing import Any

from ..core.runtime import running_runtime, runtime
from ..core.spare_loop import spare_loop
from . import drain
from .addresses import refuse, view_name_of
from .handshake import Handshake, is_ours
from .health import answer_before_django
from .hold import Hold
from .sockets import Application, Receive, Scope, Send
from .websocket import SEND_KEY, serve

logger = logging.getLogger("django_live.application")


class LiveApplication:
    """``answers_websockets``: whether the wrapped application takes WebSockets; Django's does not.
    ``only_live``: whether everything but our own addresses is refused."""

    def __init__(
        self, application: Application, *, answers_websockets: bool, only_live: bool = False
    ) -> None:
        self._only_live = only_live
        self._application = application
        self._answers_websockets = answers_websockets
        self._http = Hold(application)
        self._handshake = Handshake(application, self._http.gate)
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._only_live and not view_name_of(scope):
            await refuse(scope, receive, send)
        elif scope["type"] == "http":
            if not self._begun:  # Daphne has no lifespan: begin with the first request
                self._begin()
            if await answer_before_django(scope, send):
                return
            held = await self._http.answer(scope, receive, send)
            if held is not None:
                await held
        elif scope["type"] == "websocket":
            if not self._begun:
                self._begin()
            await self._websocket(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_ours(scope):
            await serve(scope, receive, send, self._handshake.decide)
        elif self._answers_websockets:
            # Our consumer may be behind the project's own middleware, which may wrap the ``send``.
            await self._application({**scope, SEND_KEY: send}, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 4404})

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
                spare_loop.flush()
                await send({"type": "lifespan.shutdown.complete"})
                return
