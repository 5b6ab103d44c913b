"""What a site's middleware may do to a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], Any]
answers: dict[str, Any] = {}


def replaces(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> Any:
        get_response(request)
        return HttpResponse("something else")

    return middleware


def caches_the_headers(get_response: GetResponse) -> GetResponse:
    """As a cache does: what it answers is not the response of this request."""

    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        if "cached" in answers:
            return HttpResponse("from the cache", headers=answers["cached"])
        answers["cached"] = dict(response.headers)
        return response

    return middleware


def fails(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        response.status_code = 500
        return response

    return middleware


def compresses(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        response["Content-Encoding"] = "x-unknown"
        return response

    return middleware


def adds_a_header(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        response["X-Site"] = "ours"
        return response

    return middleware
