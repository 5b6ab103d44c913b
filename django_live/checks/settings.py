"""The one setting, key by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from ..conf import SETTING, LiveSettings, live_settings, problems
from ..core.log import BUILT_IN, EventLog
from ..transports import origins
from ..transports.authentication import SESSION
from .redis import redis_faults


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
    found += redis_faults(configured) if configured.STORE == "redis" else []
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
    found += _faults_of_access(configured)
    if configured.STORE == "database" and configured.DATABASE not in settings.DATABASES:
        found.append(
            Error(
                f"{SETTING}['DATABASE'] names {configured.DATABASE!r}, which DATABASES does not have.",
                id="django_live.E002",
            )
        )
    return found


def _faults_of_access(configured: LiveSettings) -> list[CheckMessage]:
    """E002: an authenticator that is none. E011: an origin that is none, or cookies for all origins."""
    found: list[CheckMessage] = []
    for name in configured.AUTHENTICATORS:
        fault = name != SESSION and _fault(
            "AUTHENTICATORS", name, callable, "a function or a class"
        )
        if fault:
            hint = 'Use "session", or the dotted path of a function that takes a request.'
            found.append(Error(fault, hint=hint, id="django_live.E002"))
    faults = [
        f"names {origin!r}, which {origins.faults(origin)}"
        for origin in configured.CORS_ORIGINS
        if origins.faults(origin)
    ]
    if configured.CORS_CREDENTIALS and origins.ANY in configured.CORS_ORIGINS:
        faults.append(
            'names "*", and CORS_CREDENTIALS is set: no cookie counts for an origin by "*"'
        )
    found += [
        Error(
            f"{SETTING}['CORS_ORIGINS'] {fault}.",
            hint="Name each origin whose pages you trust with the users of this site.",
            id="django_live.E011",
        )
        for fault in faults
    ]
    return found


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
