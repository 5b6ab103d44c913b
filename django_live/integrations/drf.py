"""Django REST framework: its authentication classes as authenticators, and its tokens' end.

``DJANGO_LIVE["AUTHENTICATORS"]`` names such a class as it is; no project has to import this module.

Must keep true: what the class refuses is refused here; a token that is deleted ends what was opened with
it, as fast as a logout does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from ..core import control
from ..revocation import safely
from ..transports.authentication import Identity


def authenticator(backend: Any) -> Callable[[HttpRequest], Identity | None]:
    """An authenticator of an object that has ``authenticate(request)``, which answers with a user and
    what it was authenticated by, or None."""

    def authenticate(request: HttpRequest) -> Identity | None:
        from rest_framework.exceptions import APIException
        from rest_framework.request import Request

        try:
            found = backend.authenticate(Request(request))
        except APIException as error:
            if error.status_code >= 500:
                raise
            raise PermissionDenied from error
        if found is None:
            return None
        user, auth = found
        return Identity(user, scopes_of(auth), expires_of(auth))

    return authenticate


def scopes_of(auth: Any) -> frozenset[str] | None:
    """What a token says that it allows: the claim ``scope`` (RFC 8693, section 4.2) or ``scopes`` of a
    JWT, or an attribute of that name. None where it says nothing."""
    for name in ("scope", "scopes"):
        told = _of(auth, name)
        if isinstance(told, str):
            return frozenset(told.split())
        if isinstance(told, list | tuple | set | frozenset):
            return frozenset(str(one) for one in told)
    return None


def expires_of(auth: Any) -> float | None:
    """When a token ends, in seconds since 1970: the claim ``exp`` (RFC 7519, section 4.1.4), or an
    attribute ``expires`` or
    ``expiry``. None where it says nothing."""
    for name in ("exp", "expires", "expiry"):
        told = _of(auth, name)
        if isinstance(told, datetime):
            return told.timestamp()
        if isinstance(told, int | float) and not isinstance(told, bool):
            return float(told)
    return None


def _of(auth: Any, name: str) -> Any:
    payload = auth if isinstance(auth, Mapping) else getattr(auth, "payload", None)
    if isinstance(payload, Mapping):
        return payload.get(name)
    return getattr(auth, name, None)


# -- tokens in the database ------------------------------------------------------------------------


def listen() -> None:
    """Hear when a token of ``rest_framework.authtoken`` is made anew or deleted. Called when the app is
    ready, if that one is installed."""
    from rest_framework.authtoken.models import Token

    post_save.connect(_token_changed, Token, dispatch_uid=f"{__name__}.saved")
    post_delete.connect(_token_changed, Token, dispatch_uid=f"{__name__}.deleted")


def _token_changed(instance: Any, using: str, created: bool = False, **kwargs: Any) -> None:
    if not created:
        safely(lambda: control.recheck(user=instance.user_id, using=using), using)
