"""What adapters to other packages, and the apps beside this one, need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from ..conf import SETTING, live_settings, problems


@register("django_live")
def check_notifications_hq(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """W022: the setting for django-notifications-hq, without the apps that it needs."""
    if problems(getattr(settings, SETTING, {})) or not live_settings().NOTIFICATIONS_HQ:
        return []
    needed = ("django_live.notifications", "notifications")
    missing = [name for name in needed if not apps.is_installed(name)]
    if not missing:
        return []
    return [
        Warning(
            f"DJANGO_LIVE['NOTIFICATIONS_HQ'] is True, but {' and '.join(missing)} "
            "cannot be found: nothing of it goes live.",
            hint=f"Add {' and '.join(map(repr, missing))} to INSTALLED_APPS.",
            id="django_live.W022",
        )
    ]


@register("django_live")
def check_chat_files(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W025: files of the chat would lie beside the site's code."""
    if not apps.is_installed("django_live.chat") or str(settings.MEDIA_ROOT):
        return []
    storage = settings.STORAGES.get("default", {})
    is_plain = storage.get("BACKEND") == "django.core.files.storage.FileSystemStorage"
    if not is_plain or storage.get("OPTIONS", {}).get("location"):
        return []
    return [
        Warning(
            "MEDIA_ROOT is empty: files of the chat are written where the server was started.",
            hint='Set MEDIA_ROOT to a folder, as in MEDIA_ROOT = BASE_DIR / "media".',
            id="django_live.W025",
        )
    ]
