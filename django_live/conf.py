"""Every setting, its type and its default. The only reader of ``settings.DJANGO_LIVE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

SETTING = "DJANGO_LIVE"

T = TypeVar("T")


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
    AUTHENTICATORS: tuple[str, ...] = ("session",)
    """Who a request is from, asked in this order: "session" (Django's own), or the dotted path of a
    function, of a class of Django REST framework's, or of one like it."""
    TICKET_LIFETIME: float = 60.0
    """How long a ticket may be used to open a connection."""
    CORS_ORIGINS: tuple[str, ...] = ()
    """Origins whose pages may use the live addresses: "https://app.example", "https://*.example"
    for its subdomains, "*" for all."""
    CORS_CREDENTIALS: bool = False
    """Whether these pages may use the cookies of this site. Without it they need tokens."""
    MAX_TOPICS: int = 50
    """Topics one stream may carry."""
    MAX_CONNECTIONS: int = 10_000
    """Connections that one process holds; more are told to poll, or to come later."""
    MAX_CONNECTIONS_PER_USER: int = 100
    """Connections that one process holds for one user."""
    MAX_CONNECTIONS_PER_ADDRESS: int | None = None
    """The same for the address of visitors who are not signed in; see PROXIES. None: no limit."""
    OPENING_RATE: int = 20
    """Connections a second that one user may open over time, in one process; so may an address, where
    MAX_CONNECTIONS_PER_ADDRESS is set."""
    OPENING_BURST: int = 100
    """Connections that they may open at once before ``OPENING_RATE`` holds them back."""
    PROXIES: int = 0
    """Proxies of yours in front of the site that add to PROXY_HEADER; 0: the header is not believed."""
    PROXY_HEADER: str = "X-Forwarded-For"
    """The header in which proxies write down whom they answer."""
    HEARTBEAT: float = 20.0
    """A stream that was silent this long gets a keep-alive."""
    STREAM_LIFETIME: float = 3600.0
    """A stream is ended after this time, plus or minus a tenth, and the client comes back."""
    RETRY: float = 2.0
    """Upper bound of a client's first wait before it reconnects."""
    DRAIN: float = 3.0
    """At SIGTERM the streams are ended one after the other within this time."""
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
    MESSAGE_BYTES: int = 1024 * 1024
    """The largest message that a client may send, and the largest bytes that may be published."""
    MESSAGE_RATE: int = 50
    """Messages a second that one user or session may send over time, whatever they send by; of visitors
    without either, one WebSocket or one address."""
    MESSAGE_BURST: int = 100
    """Messages that they may send at once before ``MESSAGE_RATE`` holds it back."""
    CALL_TIMEOUT: float = 10.0
    """How long ``on_message`` may take before the sender is told that it did not end."""
    JOB_LEASE: float = 10.0
    """How long a job or a token stream may give no sign of life before its viewers are told: a job is
    stalled then, a stream has ended. Signs are given twice a second."""
    JOB_KEEP: float = 86_400.0
    """How long what is known of a job is kept after its last word."""
    ADMISSION: int = 32
    """Streams that may be opening at the same time in one process; more wait their turn."""
    NOTIFICATIONS_HQ: bool = False
    """Whether the notifications of django-notifications-hq go live."""
    PRESENCE_LEASE: float = 15.0
    """Within this time the members of a process that was killed are gone."""
    CHAT_LENGTH: int = 4000
    """Characters that a message of the chat may have."""
    CHAT_RATE: int = 5
    """Messages a second that one person may write in the chat over time, in one process."""
    CHAT_BURST: int = 20
    """Messages that they may write at once before ``CHAT_RATE`` holds them back."""
    CHAT_UPLOAD_BYTES: int = 10 * 1024 * 1024
    """The largest file that may be sent in the chat."""
    CHAT_UPLOAD_TYPES: tuple[str, ...] = (
        "png", "jpg", "jpeg", "gif", "webp", "pdf", "txt", "csv", "mp3", "ogg", "mp4",
    )  # fmt: skip
    """Endings of the files that may be sent."""
    CHAT_REACTIONS: tuple[str, ...] = ("👍", "❤️", "😂", "🎉", "😮", "😢")
    """Signs that one may react to a message with."""
    CLOCK_SKEW: float = 0.5
    """How far the clocks of the hosts may differ; a page's position is taken this much earlier."""
    RELEASE: str = ""
    """What this process runs, for those who operate the site: a version, or a commit."""
    METRICS_TOKEN: str | None = None
    """Whoever shows it as a bearer token may read the metrics; None: users with the permission only."""
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
        kind = _KINDS.get(key, str(fields[key].type))
        rule, sentence = _RULES.get(kind, _ANY)
        if not rule(value):
            found.append(f"{SETTING}[{key!r}] must be {sentence}, not {value!r}.")
    return found


INTERVALS = frozenset(
    {
        "HEARTBEAT",
        "STREAM_LIFETIME",
        "HEAD_CHECK",
        "SWEEP",
        "TRIM",
        "RECHECK",
        "CALL_TIMEOUT",
        "TICKET_LIFETIME",
        "JOB_LEASE",
        "JOB_KEEP",
        "PRESENCE_LEASE",
    }
)
"""Times after which something is done again: 0 would keep a processor busy."""
_KINDS = {**dict.fromkeys(INTERVALS, "interval"), "PROXIES": "count", "RELEASE": "text"}
"""Of settings whose type says too little."""


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value)


def _is_time(value: Any) -> bool:
    # False for NaN, too.
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    )


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str) and bool(value), "a non-empty string"),
    "text": (lambda value: isinstance(value, str), "a string"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a string or None"),
    "int": (lambda value: _is_count(value, 1), "a whole number above 0"),
    "int | None": (
        lambda value: value is None or _is_count(value, 1),
        "a whole number above 0, or None",
    ),
    "count": (lambda value: _is_count(value, 0), "a whole number, 0 or more"),
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "tuple[str, ...]": (lambda value: _are_names(value), "a list of non-empty strings"),
    "float": (_is_time, "a number of seconds, 0 or more"),
    "interval": (lambda v: _is_time(v) and v > 0, "a number of seconds above 0"),
}
_ANY: tuple[Callable[[Any], bool], str] = (lambda value: True, "anything")


class Remembered(Generic[T]):
    """Calls ``make`` once, and again after the settings have changed. Threads that ask at once get the
    same; what one was making while they changed is nobody else's. Without a lock, which a child that
    is forked meanwhile would wait for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        update_wrapper(self, make)
        setting_changed.connect(self._forget, weak=False)

    def __call__(self) -> T:
        made = self._made
        if not made:
            # At the end in one step of the interpreter, and whoever comes second is passed over.
            made.append(self._make())
        return made[0]

    def cache_clear(self) -> None:
        """Have it made anew. Who is making it keeps what it makes for itself."""
        self._made = []

    def _forget(self, *, setting: str, **kwargs: Any) -> None:
        if setting == SETTING:
            self.cache_clear()


@Remembered
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
