"""Who may listen, from where and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from ..conf import SETTING, live_settings, problems


@register("django_live", deploy=True)
def check_origins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W010: cookies for pages that anybody on the way can change, or for a whole domain. W011: cookies
    for an origin whose messages Django will refuse."""
    if problems(getattr(settings, SETTING, {})) or not live_settings().CORS_CREDENTIALS:
        return []
    found: list[CheckMessage] = []
    for origin in live_settings().CORS_ORIGINS:
        if origin.startswith("http://") or "://*." in origin:
            what = "has no TLS" if origin.startswith("http://") else "is every host of a domain"
            found.append(
                Warning(
                    f"Pages of {origin} use this site's cookies, and that origin {what}: who can put a "
                    "page there reads what your users may see.",
                    hint="Name single hosts, with https.",
                    id="django_live.W010",
                )
            )
        if origin not in settings.CSRF_TRUSTED_ORIGINS:
            found.append(
                Warning(
                    f"Pages of {origin} may use this site's cookies and cannot send messages with them.",
                    hint="Add it to CSRF_TRUSTED_ORIGINS, or give these pages tokens.",
                    id="django_live.W011",
                )
            )
    return found


@register("django_live", deploy=True)
def check_sessions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W012: sessions that are kept in cookies only."""
    if settings.SESSION_ENGINE != "django.contrib.sessions.backends.signed_cookies":
        return []
    return [
        Warning(
            "Sessions are kept in cookies, so nothing knows that one has ended: a logout ends the "
            "connections that were opened with the very same cookie, and no others.",
            hint="Use another SESSION_ENGINE; or call disconnect(user=…) when somebody logs out.",
            id="django_live.W012",
        )
    ]


LONGEST = {"TICKET_LIFETIME": 600.0, "RECHECK": 3600.0, "STREAM_LIFETIME": 86_400.0}
"""Seconds after which a setting that bounds what goes wrong bounds it no more."""


@register("django_live", deploy=True)
def check_bounds(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W020: any host is the site's own. W021: times that are no bound any more."""
    if problems(getattr(settings, SETTING, {})):
        return []
    found: list[CheckMessage] = []
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                'ALLOWED_HOSTS has "*": a page of any name that leads to this site\'s address counts '
                "as the site's own, and opens streams.",
                hint="Name the site's hosts.",
                id="django_live.W020",
            )
        )
    for name, longest in LONGEST.items():
        if getattr(live_settings(), name) > longest:
            found.append(
                Warning(
                    f"{name} is more than {longest:.0f} seconds: so long may a ticket be found in a log "
                    "and used, a right that is gone go unnoticed, or a client that vanished be kept.",
                    hint="Leave the default, or something of its size.",
                    id="django_live.W021",
                )
            )
    return found
