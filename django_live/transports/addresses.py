"""Which of our addresses a request is for, asked before Django has it.

Must keep true: a site's own pages are none of our business, whatever is wrong with their addresses.
"""

from __future__ import annotations

import logging

from django.core.handlers.asgi import get_script_prefix
from django.urls import Resolver404, ResolverMatch, resolve

from .sockets import Receive, Scope, Send

logger = logging.getLogger("django_live.addresses")

APP = "django_live"


def view_name_of(scope: Scope) -> str:
    """The name of our view that this request is for, ``"events"``; empty for everything else."""
    match = _match(scope)
    return match.url_name or "" if match is not None and APP in match.app_names else ""


def _match(scope: Scope) -> ResolverMatch | None:
    path = scope["path"]
    prefix = get_script_prefix(scope)
    if prefix:
        path = path.removeprefix(prefix)
    try:
        return resolve(path)
    except Resolver404:
        return None
    except Exception:  # addresses that cannot be read: Django will say so to whoever asks it
        logger.debug("%r could not be looked up.", path, exc_info=True)
        return None


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """There is nothing at this address."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4404})
        return
    body = b"Not found.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
