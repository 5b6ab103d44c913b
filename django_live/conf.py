"""Every setting, its type and its default. The only reader of ``settings.DJANGO_LIVE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

SETTING = "DJANGO_LIVE"


@dataclasses.dataclass(frozen=True, slots=True)
class LiveSettings:
    """The keys of ``DJANGO_LIVE``. Times are seconds and sizes are bytes unless a line says otherwise."""

    STORE: str = "database"
    """Where events rest: "database", "redis", "memory" (one process, development) or a dotted path."""
    DATABASE: str = "default"
    """Alias of the database that holds the log when STORE is "database"."""
    REDIS_URL: str | None = None
    """The server that holds it when STORE is "redis": ``redis://user:password@host:6379/0``."""
    REDIS_PREFIX: str = "live"
    """Begins every key in Redis. Projects that share a Redis need different ones."""
    CHANNEL_LAYER: str = "default"
    """Alias in ``CHANNEL_LAYERS``. Where it is not configured, events stay in this process and
    other processes find them in the log within a second."""
    NAMESPACE: str | None = None
    """Dotted path of a callable(request) -> str that names the tenant; None: one namespace."""
    MAX_TOPICS: int = 50
    """Topics one stream may carry."""
    HEARTBEAT: float = 20.0
    """A stream that was silent this long gets a keep-alive."""
    STREAM_LIFETIME: float = 3600.0
    """A stream is ended after this time, plus or minus a tenth, and the client comes back."""
    RETRY: float = 2.0
    """Upper bound of a client's first wait before it reconnects."""
    HEAD_CHECK: float = 5.0
    """How often a quiet topic's head is compared with what was delivered; at most 1 second where
    the channel layer does not reach other processes."""
    SWEEP: float = 0.5
    """How often a process with an event loop numbers the outbox rows that others left behind."""
    TRIM: float = 60.0
    """How often old events are removed, in batches."""
    RECHECK: float = 60.0
    """How often each open subscription's permission is asked for again."""
    RING_BYTES: int = 512 * 1024
    """Newest events of a topic that a process keeps in memory, for readers that lag or resume."""
    QUEUE_BYTES: int = 256 * 1024
    """What may wait for one connection per topic without history."""
    WRITE_BYTES: int = 64 * 1024
    """How much of what waits is written to a socket at once."""
    ADMISSION: int = 32
    """Streams that may be opening at the same time in one process; more wait their turn."""
    CLOCK_SKEW: float = 0.5
    """How far the clocks of the hosts may differ; a page's position is taken this much earlier."""
    NUMBERING_WAIT: float = 1.0
    """How long a publisher waits for another that numbers the same topic, before it leaves its
    rows to the sweep."""


def problems(configured: Any) -> list[str]:
    """What is wrong with a value of ``settings.DJANGO_LIVE``, as sentences; empty when nothing is."""
    if not isinstance(configured, dict):
        return [f"{SETTING} must be a dict, not {type(configured).__name__}."]
    fields = {field.name: field for field in dataclasses.fields(LiveSettings)}
    found = []
    for key, value in configured.items():
        if key not in fields:
            found.append(
                f"{SETTING}[{key!r}] is not a setting. Known: {', '.join(sorted(fields))}."
            )
            continue
        kind = "interval" if key in INTERVALS else str(fields[key].type)
        rule, sentence = _RULES.get(kind, _ANY)
        if not rule(value):
            found.append(f"{SETTING}[{key!r}] must be {sentence}, not {value!r}.")
    return found


INTERVALS = frozenset({"HEARTBEAT", "STREAM_LIFETIME", "HEAD_CHECK", "SWEEP", "TRIM", "RECHECK"})
"""Times after which something is done again: 0 would keep a processor busy."""


def _is_time(value: Any) -> bool:
    # False for NaN, too.
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    )


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str) and bool(value), "a non-empty string"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a string or None"),
    "int": (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0,
        "a whole number above 0",
    ),
    "float": (_is_time, "a number of seconds, 0 or more"),
    "interval": (lambda v: _is_time(v) and v > 0, "a number of seconds above 0"),
}
_ANY: tuple[Callable[[Any], bool], str] = (lambda value: True, "anything")


@cache
def live_settings() -> LiveSettings:
    """The settings in force. Read again after ``override_settings``.

    Raises ``ImproperlyConfigured`` with every problem, which ``manage.py check`` also lists.
    """
    from django.conf import settings

    configured = getattr(settings, SETTING, {})
    found = problems(configured)
    if found:
        raise ImproperlyConfigured(" ".join(found))
    return LiveSettings(**configured)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING:
        live_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_live.conf")
