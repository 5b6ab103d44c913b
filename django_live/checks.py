"""System checks: what would go wrong later, said at start. Listed in docs/reference/checks.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from .conf import SETTING, live_settings, problems
from .core.log import BUILT_IN
from .core.topics import WITH_HISTORY, WITHOUT_HISTORY, registry


@register("django_live")
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: an unknown key or a wrong value. E002: a store or database that does not exist."""
    found: list[CheckMessage] = [
        Error(problem, hint="See docs/reference/settings.md.", id="django_live.E001")
        for problem in problems(getattr(settings, SETTING, {}))
    ]
    if found:
        return found
    configured = live_settings()
    try:
        import_string(BUILT_IN.get(configured.STORE, configured.STORE))
    except ImportError as error:
        hint = f"Use {', '.join(repr(name) for name in BUILT_IN)} or a dotted path."
        found.append(
            Error(f"The store cannot be loaded: {error}", hint=hint, id="django_live.E002")
        )
    if configured.STORE == "database" and configured.DATABASE not in settings.DATABASES:
        found.append(
            Error(
                f"{SETTING}['DATABASE'] names {configured.DATABASE!r}, which DATABASES does not have.",
                id="django_live.E002",
            )
        )
    return found


@register("django_live")
def check_topics(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E003: an overflow rule that does not go with the topic's history."""
    found: list[CheckMessage] = []
    for topic_class in registry.classes():
        rules = WITH_HISTORY if topic_class.history else WITHOUT_HISTORY
        if topic_class.overflow_rule() not in rules:
            kind = "with" if topic_class.history else "without"
            found.append(
                Error(
                    f"{topic_class.__qualname__}.overflow = {topic_class.overflow!r} is not a rule "
                    f"for a topic {kind} history.",
                    hint=f"Choose one of {', '.join(rules)}.",
                    obj=topic_class,
                    id="django_live.E003",
                )
            )
    return found


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
    """W002: runserver would be Django's own, which cannot stream. W003: a layer for one process."""
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
