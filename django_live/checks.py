"""System checks: what would go wrong later, said at start. Listed in docs/reference/checks.md."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.management import get_commands
from django.utils.module_loading import import_string

from .conf import SETTING, LiveSettings, live_settings, problems
from .core.log import BUILT_IN, EventLog
from .core.topics import WITH_HISTORY, WITHOUT_HISTORY, registry
from .features.declared import DECLARED
from .features.mistakes import mistakes
from .features.triggers import are_missing
from .transports import origins
from .transports.authentication import SESSION


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


@register("django_live", deploy=True)
def check_redis(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W013: the store's Redis is one server of a cluster. One that cannot be reached says nothing."""
    if problems(getattr(settings, SETTING, {})) or live_settings().STORE != "redis":
        return []
    if _redis_faults(live_settings()):
        return []
    from .stores.redis_client import RedisClient  # only here is redis known to be installed

    if not RedisClient().is_of_cluster():
        return []
    return [
        Warning(
            f"{SETTING}['REDIS_URL'] names one server of a Redis Cluster, which refuses most topics.",
            hint="Let it name a server of its own, with a replica if need be. The channel layer "
            "RedisPubSubChannelLayer may stay on the cluster.",
            id="django_live.W013",
        )
    ]


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
def check_changes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E005 to E010: what is wrong with declarations of ``Changes``."""
    if problems(getattr(settings, SETTING, {})):
        return []
    found = [one for changes in DECLARED.values() for one in mistakes(changes)]
    return [_CHANGES[one.kind](one.sentence, hint=one.hint or None) for one in found]


_CHANGES: dict[str, Callable[..., CheckMessage]] = {
    "model": partial(Error, id="django_live.E005"),
    "fields": partial(Error, id="django_live.E006"),
    "related": partial(Error, id="django_live.E007"),
    "audiences": partial(Error, id="django_live.E008"),
    "rules": partial(Error, id="django_live.E009"),
    "namespace": partial(Error, id="django_live.E010"),
}


@register("django_live", Tags.database)
def check_triggers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W003: ``Changes`` that rely on triggers, and a table without them."""
    models = {changes.model for changes in DECLARED.values() if changes.hears_triggers()}
    return [
        Warning(
            f"The table of {model._meta.label} in the database {alias!r} has no triggers: what is "
            "written there is not told.",
            hint=f'Add LiveTriggers("{model._meta.label}") to a migration.',
            id="django_live.W003",
        )
        for alias in databases or ()
        for model in models
        if are_missing(alias, model)
    ]


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


@register("django_live")
def check_autocommit(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W004: without autocommit Django never tells when a transaction is committed."""
    return [
        Warning(
            f"DATABASES[{alias!r}] has AUTOCOMMIT off: what is published outside of atomic() waits "
            "for the sweep.",
            hint="Leave AUTOCOMMIT on, as Django has it, and use transaction.atomic().",
            id="django_live.W004",
        )
        for alias, database in settings.DATABASES.items()
        if database.get("AUTOCOMMIT", True) is False
    ]


@register("django_live", deploy=True)
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W005: an SQLite file on which two writers at once fail."""
    if problems(getattr(settings, SETTING, {})) or live_settings().STORE != "database":
        return []
    database = settings.DATABASES.get(live_settings().DATABASE, {})
    missing = _missing_for_writers(database) if _is_sqlite_file(database) else []
    return [
        Warning(
            f"The log is in an SQLite file without {' and '.join(missing)}: writers fail with "
            '"database is locked" when several come at once.',
            hint="See docs/howto/deploy.md, under SQLite.",
            id="django_live.W005",
        )
        for _ in missing[:1]
    ]


def _is_sqlite_file(database: dict[str, Any]) -> bool:
    name = str(database.get("NAME") or "")
    in_memory = not name or ":memory:" in name or "mode=memory" in name
    return str(database.get("ENGINE", "")).endswith(".sqlite3") and not in_memory


def _missing_for_writers(database: dict[str, Any]) -> list[str]:
    options = database.get("OPTIONS", {})
    has_wal = "wal" in str(options.get("init_command", "")).lower() or _is_wal(database["NAME"])
    missing = [] if has_wal else ["WAL"]
    if str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append('"transaction_mode": "IMMEDIATE"')
    if options.get("timeout", 5) < SHORTEST_WAIT:
        missing.append('"timeout": 20')
    return missing


SHORTEST_WAIT = 10
"""Seconds a writer of SQLite should be ready to wait. With its default of 5 some failed in our runs."""


def _is_wal(name: Any) -> bool:
    """Whether the file was put into WAL mode once, which it keeps (https://sqlite.org/fileformat.html)."""
    try:
        with Path(name).open("rb") as file:
            return file.read(20)[18:20] == b"\x02\x02"
    except (OSError, ValueError):
        return False


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


BLOCKING_READ = 5.0
"""Seconds that RedisChannelLayer lets one read wait for a message (its ``brpop_timeout``)."""


@register("django_live")
def check_layer(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W008: a channel layer whose connections time out while they wait for a message."""
    if problems(getattr(settings, SETTING, {})):
        return []
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get(live_settings().CHANNEL_LAYER, {})
    if layer.get("BACKEND") != "channels_redis.core.RedisChannelLayer":
        return []
    hosts = layer.get("CONFIG", {}).get("hosts") or [{}]
    waits = [_socket_timeout(host) for host in hosts]
    if all(wait is None or wait > BLOCKING_READ for wait in waits):
        return []
    return [
        Warning(
            "RedisChannelLayer waits 5 seconds for a message, and its connections time out as soon: "
            "each quiet channel loses its connection, perhaps with a message on the way.",
            hint='Set "hosts": [{"address": "redis://…", "socket_timeout": 15, "max_connections": '
            "1000}] (redis-py stops at 100 connections), or use "
            "channels_redis.pubsub.RedisPubSubChannelLayer, which has neither limit.",
            id="django_live.W008",
        )
    ]


def _socket_timeout(host: Any) -> float | None:
    """The time-out of a connection to one of the layer's hosts; None: none."""
    given = host if isinstance(host, dict) else {}
    if "socket_timeout" in given:
        value = given["socket_timeout"]
        return None if value is None else float(value)
    address = host if isinstance(host, str) else str(given.get("address", ""))
    query = parse_qs(urlsplit(address).query)
    if "socket_timeout" in query:
        return float(query["socket_timeout"][0])
    try:
        from redis.asyncio import connection
    except ImportError:
        return None
    return cast("float | None", getattr(connection, "DEFAULT_SOCKET_TIMEOUT", None))


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
