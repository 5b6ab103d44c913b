"""Authenticators of the tests' own: what projects write."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from django_live.transports.authentication import Identity

KEYS: dict[str, Identity] = {}
"""What may stand in the header ``X-Key``. A test fills it, and takes keys away."""
SEEN: list[HttpRequest] = []


def by_key(request: HttpRequest) -> Any:
    SEEN.append(request)
    key = request.headers.get("X-Key")
    if key is None:
        return None
    if key not in KEYS:
        raise PermissionDenied
    return KEYS[key]


def by_name(request: HttpRequest) -> User | None:
    """Answers with a user, and nothing more."""
    name = request.headers.get("X-Name")
    return None if name is None else User.objects.get(username=name)


async def in_a_coroutine(request: HttpRequest) -> User | None:
    name = request.headers.get("X-Name")
    return None if name is None else await User.objects.aget(username=name)


def broken(_request: HttpRequest) -> None:
    raise ZeroDivisionError("secret")


class ByCookie:
    """As sites have that keep a JWT in a cookie."""

    uses_cookies = True

    def __call__(self, request: HttpRequest) -> Any:
        key = request.COOKIES.get("key")
        return None if key is None else KEYS.get(key)
