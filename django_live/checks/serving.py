"""How the site is served: addresses, servers, processes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register
from django.core.management import get_commands

from ..conf import SETTING, live_settings, problems


@register("django_live")
def check_urls(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001: the transports have no address."""
    from django.urls import NoReverseMatch, reverse

    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("django_live:events")
    except NoReverseMatch:
        return [
            Warning(
                "The addresses of django_live are not in your URLs.",
                hint='Add path("live/", include("django_live.urls")) to urlpatterns.',
                id="django_live.W001",
            )
        ]
    return []


@register("django_live")
def check_application(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W002: daphne's runserver has no application to run."""
    found: list[CheckMessage] = []
    installed = list(settings.INSTALLED_APPS)
    if "daphne" in installed and not getattr(settings, "ASGI_APPLICATION", None):
        found.append(
            Warning(
                "daphne is installed, but ASGI_APPLICATION is not set.",
                hint='Set ASGI_APPLICATION = "yourproject.asgi.application".',
                id="django_live.W002",
            )
        )
    return found


@register("django_live")
def check_runserver(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W009: this is Django's own ``runserver``, which cannot keep a stream open."""
    if sys.argv[1:2] != ["runserver"]:
        return []
    if get_commands().get("runserver") not in ("django.core", "django.contrib.staticfiles"):
        return []  # of daphne or another package that knows ASGI
    return [
        Warning(
            "runserver speaks WSGI here: pages can only poll.",
            hint='pip install "django-live-features[daphne]", and put "daphne" first in '
            "INSTALLED_APPS; or run the ASGI application with uvicorn --reload.",
            id="django_live.W009",
        )
    ]


@register("django_live", deploy=True)
def check_processes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W006: a store of one process. W007: a channel layer of one process."""
    if problems(getattr(settings, SETTING, {})):
        return []
    configured = live_settings()
    found: list[CheckMessage] = []
    if configured.STORE == "memory":
        found.append(
            Warning(
                f'{SETTING}["STORE"] is "memory": events are gone when the process ends, and no other '
                "process has them.",
                hint='Use "database", or "redis".',
                id="django_live.W006",
            )
        )
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get(configured.CHANNEL_LAYER, {})
    in_memory = str(layer.get("BACKEND", "")).endswith(".InMemoryChannelLayer")
    if in_memory or (configured.STORE == "redis" and not layer):
        found.append(
            Warning(
                "No channel layer reaches other processes: they find events in the log, up to a "
                "second later, and events of topics without history never.",
                hint="Configure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS "
                "(docs/howto/deploy.md), or silence this if there is one process only.",
                id="django_live.W007",
            )
        )
    return found
