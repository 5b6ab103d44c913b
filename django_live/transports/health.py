"""``live/health/``: may this process get requests, and what can it reach?

Whether it is *ready* is a local matter: it is unless it drains. What it reaches (store, channel layer)
is reported and changes no status: a Redis that is down must not take every page server out.

Must keep true: an answer takes about a second at most, whatever hangs; asking often costs the store
nothing; a stranger learns no names, hosts or errors.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from ..core import bus
from ..core.control import ControlTopic
from ..core.events import Event
from ..core.log import get_log
from ..core.runtime import Runtime, running_runtime, runtime
from .addresses import view_name_of
from .sockets import Scope, Send

FRESH = 2.0
"""Seconds for which an answer of the store or the layer is told again."""
PATIENCE = 1.0
"""Seconds after which one that has not answered counts as out of reach."""
PROBE = "health"
"""A topic key that nobody can have joined: a real one is a long digest."""

OK, UNREACHABLE, NONE = "ok", "unreachable", "none"
HEALTH, ALIVE = "health", "alive"
"""Names of the addresses."""


class Answer(NamedTuple):
    """What a probe is told. 503 means: send this process no new requests."""

    status: int
    told: dict[str, Any]

    @property
    def body(self) -> bytes:
        return json.dumps(self.told).encode()


ALIVE_ANSWER = Answer(200, {"alive": True})
CONTENT_TYPE = "application/json"
CACHE_CONTROL = "no-store"


async def answer() -> Answer:
    """For ``live/health/``, in the event loop that serves."""
    live = running_runtime()
    if live is not None and live.draining:
        return Answer(503, _told("draining", ready=False, streams=True))
    try:
        live = runtime()
    except Exception:  # said in the log when it began
        states = dict.fromkeys(QUESTIONS, UNREACHABLE)
    else:
        states = await _probes().states(live)
    status = "degraded" if UNREACHABLE in states.values() else "ok"
    return Answer(200, _told(status, ready=True, streams=True) | states)


def _told(status: str, *, ready: bool, streams: bool) -> dict[str, Any]:
    return {"status": status, "alive": True, "ready": ready, "streams": streams}


# -- what can be reached ---------------------------------------------------------------------------


async def _ask_store() -> str:
    await get_log().aheads([ControlTopic()])
    return OK


async def _ask_bus() -> str:
    if not bus.reaches_other_processes():
        return NONE
    probe = Event(type=PROBE, data="null")
    # A connection that is gone without a word would be waited for until the kernel gives it up.
    await asyncio.wait_for(bus.send(bus.envelopes(PROBE, "", [probe])), 2 * PATIENCE)
    return OK


QUESTIONS: dict[str, Callable[[], Awaitable[str]]] = {"store": _ask_store, "layer": _ask_bus}


class _Probes:
    """What one event loop last heard. Each question is under way at most once: what hangs in a thread
    cannot be called off."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[str]] = {}

    async def states(self, live: Runtime) -> dict[str, str]:
        for name, question in QUESTIONS.items():
            task = self._tasks.get(name)
            if task is None or (task.done() and time.monotonic() - self._asked[name] >= FRESH):
                self._asked[name] = time.monotonic()
                self._tasks[name] = live.spawn(_heard(question))
        for name, task in self._tasks.items():
            patience = self._asked[name] + PATIENCE - time.monotonic()
            await asyncio.wait([task], timeout=max(0.0, patience))
        return {name: _result(task) for name, task in self._tasks.items()}


def _result(task: asyncio.Task[str]) -> str:
    return task.result() if task.done() and not task.cancelled() else UNREACHABLE


async def _heard(question: Callable[[], Awaitable[str]]) -> str:
    try:
        return await question()
    except Exception:  # those who need it log it
        return UNREACHABLE


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Probes] = WeakKeyDictionary()


def _probes() -> _Probes:
    return _of_loop.setdefault(asyncio.get_running_loop(), _Probes())


# -- over HTTP -------------------------------------------------------------------------------------


async def answer_before_django(scope: Scope, send: Send) -> bool:
    """Answer if this is a probe, without the site's middleware: that may ask a database that hangs,
    want a login, or refuse the address by which a balancer calls this process."""
    path = scope["path"]
    if not path.endswith((f"/{HEALTH}/", f"/{ALIVE}/")) or scope["method"] not in ("GET", "HEAD"):
        return False
    name = view_name_of(scope)
    if name not in (HEALTH, ALIVE):
        return False
    found = await answer() if name == HEALTH else ALIVE_ANSWER
    headers = {"content-type": CONTENT_TYPE, "cache-control": CACHE_CONTROL}
    headers["content-length"] = str(len(found.body))
    await send(
        {
            "type": "http.response.start",
            "status": found.status,
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        }
    )
    body = b"" if scope["method"] == "HEAD" else found.body
    await send({"type": "http.response.body", "body": body})
    return True


View = Callable[[HttpRequest], HttpResponse]


def _undemanding(view: View) -> View:
    """No login, and no transaction: ``ATOMIC_REQUESTS`` would ask the database first."""
    view = login_not_required(view)
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@_undemanding
def health(request: HttpRequest) -> HttpResponse:
    """``GET live/health/`` where the ASGI wrapper has not answered it: under WSGI, above all. There it
    says that the process answers, and nothing else is known."""
    if request.method not in ("GET", "HEAD"):
        return _refused()
    if isinstance(request, ASGIRequest):
        return _response(async_to_sync(answer)())
    return _response(Answer(200, _told("ok", ready=True, streams=False)))


@_undemanding
def alive(request: HttpRequest) -> HttpResponse:
    """``GET live/health/alive/``: 200 from whoever can still answer, also while it drains."""
    return _response(ALIVE_ANSWER) if request.method in ("GET", "HEAD") else _refused()


def _response(found: Answer) -> HttpResponse:
    response = HttpResponse(found.body, status=found.status, content_type=CONTENT_TYPE)
    response["Cache-Control"] = CACHE_CONTROL
    return response


def _refused() -> HttpResponse:
    response = HttpResponse(status=405)
    response["Allow"] = "GET"
    return response
