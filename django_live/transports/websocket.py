"""The WebSocket: many topics on one connection, in both directions.

One task for a connection, which reads what the client says. Events never pass through it: the hub
writes them to the server's own ``send``. A task more lives only while a write waits for the socket, or
while something that the client asked for is being done.

Must keep true: one writer per connection at a time, the close included; nothing that a client sends
ends more than its own connection, or is seen in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from ..conf import live_settings
from ..core import hooks
from ..core.runtime import check_setup, runtime
from .conversation import CLOSE_CODES, Socket
from .handshake import http_scope
from .hold import HEADER, SCOPE_KEY, Slot
from .requests import (
    MESSAGES,
    Plan,
    Refusal,
    Refused,
    peer_of,
    place_for,
    refusal_response,
    refuse_other_sites,
    viewer_of,
)
from .socket_frames import SOCKET, text_message
from .sockets import LAST_WRITE, Application, Receive, Scope, Send

logger = logging.getLogger("django_live.websocket")

SUBPROTOCOL = "live.1"
SEND_KEY = "django_live.send"
"""In the scope, from the wrapper: the server's own ``send``, which the project's middleware may wrap."""
Decide = Callable[[Scope], Awaitable[Plan]]


# -- the address, for requests that are no WebSocket ------------------------------------------------


def websocket(request: HttpRequest) -> HttpResponse:
    """``live/ws/``. The wrapper asks it who opens a WebSocket; anybody else learns that this is one."""
    slot: Slot | None = request.scope.get(SCOPE_KEY) if isinstance(request, ASGIRequest) else None
    is_handshake = slot is not None and slot.is_handshake
    try:
        if not is_handshake:
            raise Refused(426, [Refusal("upgrade-required")])
        plan = plan_without_topics(request)
    except Refused as refused:
        if is_handshake and slot is not None:
            slot.refused = refused
        response = refusal_response(refused)
        # WSGI leaves such headers to servers, and HTTP/2 has none.
        if isinstance(request, ASGIRequest) and request.scope.get("http_version") == "1.1":
            response["Upgrade"] = "websocket"
        return response
    assert slot is not None
    slot.plan = plan
    answer = HttpResponse(headers={HEADER: slot.token, "Cache-Control": "no-store, private"})
    answer["Content-Encoding"] = "identity"
    return answer


def plan_without_topics(request: HttpRequest) -> Plan:
    """Who opens a WebSocket. Raises ``Refused``."""
    try:
        refuse_other_sites(request)
        viewer = viewer_of(request)
        plan = Plan(viewer, place=place_for(request, viewer), peer=peer_of(request))
    except SuspiciousOperation as error:
        raise Refused(400, [Refusal("malformed-request")]) from error
    try:
        check_setup()
    except Exception as error:
        raise Refused(503, [Refusal("unavailable")]) from error
    return plan


# -- one connection --------------------------------------------------------------------------------


async def serve(scope: Scope, receive: Receive, send: Send, decide_who: Decide) -> None:
    """Answer a WebSocket from its handshake to its end."""
    await receive()  # websocket.connect
    offered = [name for name in scope.get("subprotocols", ()) if name.startswith("live.")]
    known = not offered or SUBPROTOCOL in offered
    # A browser takes no subprotocol that it did not offer, and no close before the accept.
    chosen = SUBPROTOCOL if SUBPROTOCOL in offered else next(iter(offered), None)
    await send({"type": "websocket.accept", "subprotocol": chosen})
    try:
        if not known:
            raise Refused(400, [Refusal("unknown-version")])
        plan = await decide_who(scope)
    except Refused as refused:
        await _refuse(refused, send)
        return
    except Exception:
        logger.exception("Who opens a WebSocket could not be decided; it was told to come back.")
        await _refuse(Refused(503, [Refusal("unavailable")]), send)
        return
    if runtime().draining:
        await _say(send, SOCKET.goodbye(live_settings().RETRY), "good-bye")
        return
    socket = Socket(receive, send, scope.get(SEND_KEY, send))
    place = plan.place
    try:
        await socket.open(plan)
        del plan
        await socket.listen()
    finally:
        if place is not None:
            place.release()
        await socket.leave()


async def _refuse(refused: Refused, send: Send) -> None:
    refusal = refused.refusals[0]
    fallback = "" if refused.status >= 500 else "refused"
    ending = refusal.code if refusal.code in CLOSE_CODES else fallback
    last = SOCKET.error("", refusal.code, MESSAGES[refusal.code])
    if refused.retry_after is not None:
        last += SOCKET.goodbye(refused.retry_after)
    await _say(send, last, ending)


async def _say(send: Send, last: bytes, ending: str) -> None:
    """A last word on a connection that the hub does not know."""
    try:
        async with asyncio.timeout(LAST_WRITE):
            await send(text_message(last))
            await send({"type": "websocket.close", "code": CLOSE_CODES[ending]})
    except Exception:
        logger.debug("A WebSocket could not be told that it is refused.", exc_info=True)


# -- in a project's own Channels stack ---------------------------------------------------------------


class LiveConsumer:
    """The WebSocket as a Channels consumer, for projects with a WebSocket stack of their own: see
    ``django_live.routing``. It takes ``user`` and ``session`` from the scope."""

    @classmethod
    def as_asgi(cls) -> Application:
        async def consumer(scope: Scope, receive: Receive, send: Send) -> None:
            await serve(scope, receive, send, _decide_by_scope)

        return consumer


async def _decide_by_scope(scope: Scope) -> Plan:
    def decide_now() -> Plan:
        request: Any = ASGIRequest(http_scope(scope), BytesIO())
        if "user" in scope:
            request.user = scope["user"]
        if "session" in scope:
            request.session = scope["session"]
        plan = plan_without_topics(request)
        plan.viewer.forget_user()  # nobody knows how long ago it was loaded
        return plan

    return await hooks.in_thread(hooks.hook_threads(), decide_now)
