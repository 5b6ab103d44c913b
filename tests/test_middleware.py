"""The middleware notes when a request began, in both worlds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from django_live.core.positions import BEGAN_ATTRIBUTE, BEGAN_SCOPE, request_began
from django_live.middleware import LiveMiddleware

NAME = "django_live.middleware.LiveMiddleware"


def test_a_sync_site_stays_sync() -> None:
    seen: list[float] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(getattr(request, BEGAN_ATTRIBUTE))
        return HttpResponse("ok")

    middleware = LiveMiddleware(view)
    assert not iscoroutinefunction(middleware)
    before = time.time()
    answer: Any = middleware(RequestFactory().get("/"))
    assert answer.content == b"ok"
    assert before <= seen[0] <= time.time()


def test_an_async_site_stays_async() -> None:
    seen: list[float] = []

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(getattr(request, BEGAN_ATTRIBUTE))
        return HttpResponse("ok")

    middleware = LiveMiddleware(view)
    assert iscoroutinefunction(middleware)

    async def visit() -> Any:
        return await middleware(RequestFactory().get("/"))

    assert asyncio.run(visit()).content == b"ok"
    assert len(seen) == 1


@pytest.mark.django_db
def test_it_works_in_a_site(settings: Any) -> None:
    settings.MIDDLEWARE = [NAME, *settings.MIDDLEWARE]
    assert Client().get("/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_it_works_in_an_async_site(settings: Any) -> None:
    settings.MIDDLEWARE = [NAME]

    async def visit() -> int:
        return (await AsyncClient().get("/static-page-that-is-not/")).status_code

    assert asyncio.run(visit()) == 404


def test_the_middleware_is_believed_before_the_wrapper_and_that_before_a_guess() -> None:
    request: Any = RequestFactory().get("/")
    guessed = request_began(request)
    assert time.time() - 11 < guessed < time.time() - 10
    request.scope = {BEGAN_SCOPE: 2000.0}
    assert request_began(request) == 1999.5  # CLOCK_SKEW
    setattr(request, BEGAN_ATTRIBUTE, 1000.0)
    assert request_began(request) == 999.5
    assert time.time() - 11 < request_began(None) < time.time() - 10
