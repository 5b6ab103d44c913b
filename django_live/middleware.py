"""Notes when a request began, for ``{% live_topic %}``. Needed only where pages are served without the
ASGI wrapper (WSGI): it notes the same."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from .core.positions import BEGAN_ATTRIBUTE


class LiveMiddleware:
    """Put it first in ``MIDDLEWARE``."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        setattr(request, BEGAN_ATTRIBUTE, time.time())
        answer: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
        return answer
