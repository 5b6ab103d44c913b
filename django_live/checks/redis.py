"""Redis, where it keeps the log or carries the channel layer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from ..conf import SETTING, LiveSettings, live_settings, problems


def redis_faults(configured: LiveSettings) -> list[CheckMessage]:
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
    if redis_faults(live_settings()):
        return []
    from ..stores.redis_client import RedisClient  # only here is redis known to be installed

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
