"""A WebSocket's opening request, through the site's own Django middleware.

The wrapper asks Django for the socket's address with a GET, as hold does for a stream: so sessions,
logins and tenants are the site's own, and nothing of Django stays when the socket is open.

Must keep true: nobody is let in whom the site's middleware did not let through; a path that is not ours
is not touched.
"""

from __future__ import annotations

import asyncio
import time
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.urls import Resolver404, resolve
from django.utils import translation

from ..core.positions import BEGAN_SCOPE
from .hold import SCOPE_KEY, Gate, Response, Slot
from .requests import Plan, Refusal, Refused
from .sockets import Application, Message, Scope

ROUTE = "websocket"
"""Name of the address in ``django_live.urls``."""

_OF_THE_UPGRADE = (b"connection", b"upgrade", b"content-length", b"transfer-encoding")


def http_scope(scope: Scope) -> dict[str, Any]:
    """The scope of a GET with a WebSocket's address, cookies and headers."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in _OF_THE_UPGRADE and not name.lower().startswith(b"sec-websocket-")
    ]
    return {
        **scope,
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "https" if scope.get("scheme") == "wss" else "http",
        "headers": headers,
    }


def is_ours(scope: Scope) -> bool:
    """Whether a WebSocket's path leads to ours, by the site's own addresses."""
    try:
        path = ASGIRequest(http_scope(scope), BytesIO()).path_info
        language = translation.get_language_from_path(path) or settings.LANGUAGE_CODE
        with translation.override(language):
            match = resolve(path)
    except (Resolver404, ValueError):
        return False
    return match.url_name == ROUTE and match.app_names[-1:] == ["django_live"]


class Handshake:
    """Asks Django who opens a WebSocket."""

    def __init__(self, application: Application, gate: Gate) -> None:
        self._application = application
        self._gate = gate

    async def decide(self, scope: Scope) -> Plan:
        """The viewer, in a plan without topics. Raises ``Refused``."""
        slot = Slot()
        slot.is_handshake = True
        inner = {**http_scope(scope), SCOPE_KEY: slot, BEGAN_SCOPE: time.time()}
        asked = _Asked()
        began = time.monotonic()
        async with self._gate.admission():
            response = Response(slot, "GET", asked.send, lambda: None)
            await self._application(inner, asked.receive, response)
        if slot.held and slot.plan is not None:
            slot.plan.decided = began  # middleware may have loaded the user before the view
            return slot.plan
        if slot.refused is not None:
            raise slot.refused
        # Middleware answered in our place: a redirect to the login page, a site that is closed.
        status = asked.status
        if status >= 500:
            raise Refused(503, [Refusal("unavailable")])
        raise Refused(403, [Refusal("refused")])


class _Asked:
    """The two ends of a request that exists only here: without a body, and nobody hangs up."""

    def __init__(self) -> None:
        self.status = 500
        self._is_read = False

    async def receive(self) -> Message:
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody hangs up")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
