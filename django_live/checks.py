"""System checks: what would go wrong later, said at start. Listed in docs/reference/checks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from .conf import SETTING, LiveSettings, live_settings, problems
from .core.log import BUILT_IN, EventLog
from .core.topics import WITH_HISTORY, WITHOUT_HISTORY, registry


@register("django_live")
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: an unknown key or a wrong value. E002: a store, a database or a function that is none."""
    found: list[CheckMessage] = [
        Error(problem, hint="See docs/reference/settings.md.", id="django_live.E001")
        for problem in problems(getattr(settings, SETTING, {}))
    ]
    if found:
        return found
    configured = live_settings()
    found += _redis_faults(configured) if configured.STORE == "redis" else []
    store = not found and _fault("STORE", configured.STORE, _is_log, "an EventLog")
    if store:
        hint = f"Use {', '.join(repr(name) for name in BUILT_IN)} or a dotted path."
        found.append(Error(store, hint=hint, id="django_live.E002"))
    namespace = configured.NAMESPACE and _fault(
        "NAMESPACE", configured.NAMESPACE, callable, "a function"
    )
    if namespace:
        hint = "Use the dotted path of a function that takes a request and answers with a string."
        found.append(Error(namespace, hint=hint, id="django_live.E002"))
    if configured.STORE == "database" and configured.DATABASE not in settings.DATABASES:
        found.append(
            Error(
                f"{SETTING}['DATABASE'] names {configured.DATABASE!r}, which DATABASES does not have.",
                id="django_live.E002",
            )
        )
    return found


def _redis_faults(configured: LiveSettings) -> list[CheckMessage]:
    """E004: the store "redis" without its package or its address."""
    faults: dict[str, str] = {}
    if find_spec("redis") is None:
        faults["The package redis is missing."] = 'pip install "django-live-features[redis]"'
    url = configured.REDIS_URL or ""
    if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
        sentence = f"{SETTING}['REDIS_URL'] does not name a Redis server."
        faults[sentence] = 'Set it to an address like "redis://localhost:6379/0".'
    if set("{}") & set(configured.REDIS_PREFIX):
        sentence = (
            f"{SETTING}['REDIS_PREFIX'] has braces, which tell a Redis cluster where keys go."
        )
        faults[sentence] = "Use letters and digits."
    return [Error(sentence, hint=hint, id="django_live.E004") for sentence, hint in faults.items()]


def _fault(key: str, path: str, is_right: Callable[[Any], bool], wanted: str) -> str:
    """What is wrong with the dotted path in a setting; empty when it leads to what is wanted."""
    names = f"{SETTING}[{key!r}] names {path!r}, which"
    try:
        found = import_string(BUILT_IN.get(path, path))
    except ImportError as error:
        return f"{names} cannot be loaded: {error}."
    return "" if is_right(found) else f"{names} is not {wanted}."


def _is_log(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, EventLog)


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
