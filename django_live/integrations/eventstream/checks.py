"""System checks of a project that comes from django-eventstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from . import seam
from .storage import SETTING

KNOWN_STORAGES = (
    "django_eventstream.storage.DjangoModelStorage",
    "django_eventstream.storage.RedisStorage",
    "django_live.integrations.eventstream.LogStorage",
    "django_live.integrations.eventstream.storage.LogStorage",
)


@register("django_live")
def check_eventstream(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 -- Django's signature
    **kwargs: Any,
) -> list[CheckMessage]:
    """E012: django-eventstream does not hand over to us. W023: a storage class that is not asked."""
    found: list[CheckMessage] = [
        Error(
            f"django-eventstream does not go over django_live: {fault}",
            hint="Use django-eventstream 5.3, and import its view in URL confs only.",
            id="django_live.E012",
        )
        for fault in _faults()
    ]
    named = getattr(settings, SETTING, None)
    if named and named not in KNOWN_STORAGES:
        found.append(
            Warning(
                f"{SETTING} names {named}, which is not asked: events rest in django_live's log.",
                hint='Name "django_live.integrations.eventstream.LogStorage".',
                id="django_live.W023",
            )
        )
    return found


def _faults() -> list[str]:
    if not apps.is_installed("django_live"):
        return ['"django_live" is not in INSTALLED_APPS.']
    return seam.faults()
