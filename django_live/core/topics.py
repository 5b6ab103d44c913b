"""Station 1: what may be published and subscribed to, and by whom.

Must keep true: what no Topic class declares, nobody can subscribe to; every permission defaults to
no; a forbidden topic and an unknown one look alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Self

from django.core.exceptions import PermissionDenied
from django.urls.resolvers import RoutePattern

from ..exceptions import InvalidTopic, UnknownTopic
from .events import topic_key
from .viewers import Message, Viewer

__all__ = [
    "INTERNAL",
    "MAX_NAME_LENGTH",
    "Attendant",
    "History",
    "Message",
    "Topic",
    "TopicRegistry",
    "Viewer",
    "as_topic",
    "check_name",
    "declarations",
    "registry",
    "visible_from_timestamp",
]

MAX_NAME_LENGTH = 200
INTERNAL = "django_live/"
"""Begins the names of topics that processes talk to each other by."""
WITH_HISTORY = ("replay", "disconnect")
WITHOUT_HISTORY = ("drop", "conflate", "disconnect")

_PATTERN_PART = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")


@dataclass(frozen=True, slots=True)
class History:
    """How much of a topic its log keeps: at most ``events`` of them, none older than ``age``."""

    events: int = 1000
    age: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        if self.events < 1 or self.age <= timedelta(0):
            raise InvalidTopic("A History keeps at least one event for more than no time.")


class Attendant:
    """What a feature adds to a Topic class, as an attribute of it: it is told who subscribes.

    Called in the event loop, for every subscription: it must neither wait nor raise.
    """

    def arrived(self, topic: Topic, viewer: Viewer, connection: str) -> None:
        """A viewer's subscription became live. ``connection`` is its connection's id."""

    def departed(self, topic: Topic, viewer: Viewer, connection: str) -> None:
        """A subscription that had arrived has ended."""


class Topic:
    """A name one publishes and subscribes to, with its rules. Subclass it in an app's ``live.py``.

    ``OrderTopic(pk=42)`` stands for the topic ``orders/42``; the parts of the pattern become
    attributes. Hooks and permissions may be ``def`` or ``async def``.
    """

    pattern: ClassVar[str]
    """In Django's path syntax, ``"orders/<int:pk>"``."""
    history: ClassVar[History | None] = None
    """None: ephemeral, events have no offsets and cannot be replayed."""
    overflow: ClassVar[str] = ""
    """What happens when a reader is too slow. With history "replay" (the default: read again from
    the log) or "disconnect"; without "drop" (the default: oldest first), "conflate" (the newest of
    each key stays) or "disconnect"."""
    interactive: ClassVar[bool] = False
    """True: the browser also sends often, so clients prefer a WebSocket."""
    outbox: ClassVar[bool] = False
    """True: events are rows in the caller's transaction first, whatever the store."""
    replies_first: ClassVar[bool] = False
    """True: the sender of a message is answered as soon as ``on_message`` has returned, and what it has
    published in transactions is numbered and sent after that. For messages whose sender waits for the
    commit; an ``on_message`` that goes on for long after it would keep everybody else waiting."""

    namespace: str = ""
    attendants: tuple[Attendant, ...] = ()
    """What features were added to the class, its bases' included."""
    _route: ClassVar[RoutePattern]
    _parts: ClassVar[Collection[str]] = ()
    """The names of the pattern's parts."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = {
            name: one for base in reversed(cls.__mro__) for name, one in vars(base).items()
        }
        cls.attendants = tuple(one for one in inherited.values() if isinstance(one, Attendant))
        if "pattern" not in cls.__dict__:
            return
        cls._route = RoutePattern(cls.pattern, is_endpoint=True)
        cls._parts = cls._route.converters.keys()
        for name in cls._route.converters:
            if hasattr(Topic, name) or name in ("name", "key"):
                raise InvalidTopic(
                    f"{cls.__qualname__}.pattern names a part {name!r}, which is an attribute of "
                    "Topic. Give the part another name."
                )
        registry.register(cls)

    def __init__(self, *, namespace: str = "", **kwargs: Any) -> None:
        if kwargs.keys() != self._parts:
            if not hasattr(type(self), "_route"):
                raise InvalidTopic(f"{type(self).__qualname__} has no pattern.")
            raise InvalidTopic(
                f"{type(self).__qualname__} takes {', '.join(self._parts) or 'nothing'}; "
                f"it was given {', '.join(kwargs) or 'nothing'}."
            )
        self.namespace = namespace
        # One by one, and no dict of its own: thousands are made in a bulk write.
        for name, value in kwargs.items():
            setattr(self, name, value)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The parts by their names."""
        return {name: getattr(self, name) for name in self._parts}

    @cached_property
    def name(self) -> str:
        """The topic's name, ``orders/42``.

        Raises ``InvalidTopic`` when the parts cannot make one, and when the name they make is
        another topic's: permission would be asked of that one.
        """
        name = self._built_name()
        try:
            owner = registry.resolve(name, self.namespace)
        except UnknownTopic:  # declared no longer: nobody can subscribe to it
            return name
        if _declaration(type(owner)) != _declaration(type(self)):
            raise InvalidTopic(
                f"{self._shown()} makes {name!r}, which is a name of {type(owner).__qualname__}. "
                "Make their patterns differ."
            )
        return name

    @property
    def is_internal(self) -> bool:
        """Whether it is one that processes talk to each other by, and no visitor."""
        return self.name.startswith(INTERNAL)

    def builds(self, name: str) -> bool:
        """Whether the parts make this name; where they do it is not built again."""
        same = self._built_name() == name
        if same:
            self.__dict__["name"] = name
        return same

    def _built_name(self) -> str:
        texts = self._texts(self.kwargs)
        name = check_name(_PATTERN_PART.sub(lambda found: texts[found[1]], self.pattern))
        parts = self.parts_of(name)
        if parts is None or self._texts(parts) != texts:
            raise InvalidTopic(
                f"{self._shown()} makes {name!r}, which its pattern {self.pattern!r} does not read "
                "back as the same parts."
            )
        return name

    def _texts(self, parts: dict[str, Any]) -> dict[str, str]:
        """The parts as they stand in a name."""
        texts = {}
        for part, converter in self._route.converters.items():
            try:
                texts[part] = str(converter.to_url(parts[part]))
            except (ValueError, TypeError) as error:
                raise InvalidTopic(
                    f"{part}={parts[part]!r} does not fit the pattern {self.pattern!r}."
                ) from error
        return texts

    def _shown(self) -> str:
        parts = ", ".join(f"{part}={value!r}" for part, value in self.kwargs.items())
        return f"{type(self).__qualname__}({parts})"

    @cached_property
    def key(self) -> str:
        """Stands for the namespace and the name in stores and on the bus."""
        return topic_key(self.namespace, self.name)

    def within(self, namespace: str) -> Self:
        """The topic of the same name in another namespace."""
        return (
            self if namespace == self.namespace else type(self)(namespace=namespace, **self.kwargs)
        )

    # -- permissions: no, unless a subclass says yes -----------------------------------------------

    def can_subscribe(self, viewer: Viewer) -> Any:
        """Whether this viewer may read the topic. Asked when connecting and again later."""
        return False

    def can_send(self, viewer: Viewer) -> Any:
        """Whether this viewer may send to the topic."""
        return False

    def visible_from(self, viewer: Viewer) -> Any:
        """A datetime before which events are not replayed to this viewer; None: no bound."""
        return None

    # -- hooks -------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """What a newcomer, or a client after a reset, starts from. The same for every viewer."""
        return None

    def on_subscribe(self, viewer: Viewer) -> Any:
        """Called after a viewer's subscription became live."""

    def on_unsubscribe(self, viewer: Viewer) -> Any:
        """Called after a subscription that was live has ended."""

    def on_message(self, message: Message) -> Any:
        """Called for a message of a viewer who ``can_send``; what it returns goes back to a sender
        who asked, as JSON. Raise ``Rejected`` (or ``ValidationError``) to say no to the user."""
        raise PermissionDenied

    def forget(self, user: Any, type: str, data: Any) -> Any:
        """What stays of an event's data when this user is to be forgotten (``live_forget``): less of
        it, or None; the same where it tells nothing of them."""
        return data

    @classmethod
    def parts_of(cls, name: str) -> dict[str, Any] | None:
        """The parts of a name that the pattern matches; None when it does not."""
        match = cls._route.match(name)
        return None if match is None else dict(match[2])

    @classmethod
    def has_snapshot(cls) -> bool:
        return cls.snapshot is not Topic.snapshot

    @classmethod
    def has_hooks(cls) -> bool:
        """Whether anything is to be called when a subscription begins or ends."""
        return (
            cls.on_subscribe is not Topic.on_subscribe
            or cls.on_unsubscribe is not Topic.on_unsubscribe
        )

    @classmethod
    def is_asked_to_forget(cls) -> bool:
        """Whether the class says which of its data is personal."""
        return cls.forget is not Topic.forget

    @classmethod
    def overflow_rule(cls) -> str:
        """The rule in force: the declared one, or the default for topics with or without history."""
        return cls.overflow or (WITH_HISTORY if cls.history else WITHOUT_HISTORY)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topic) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.name}>"


def check_name(name: str) -> str:
    """The name itself, or ``InvalidTopic`` when no topic can be called so."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= MAX_NAME_LENGTH
        or name != name.strip()
        or not name.isprintable()
    ):
        raise InvalidTopic(
            f"A topic's name is 1 to {MAX_NAME_LENGTH} printable characters without spaces around "
            "them."
        )
    return name


def _declaration(topic_class: type[Topic]) -> tuple[str, str]:
    """Which declaration a class comes from: the same after a reload."""
    return topic_class.__module__, topic_class.__qualname__


class TopicRegistry:
    """The declared topics. Filled when the apps' ``live.py`` modules are imported."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Topic]] = {}

    def register(self, topic_class: type[Topic]) -> None:
        """Declare a Topic class; the same class declared again (a reload) replaces itself."""
        known = self._classes.get(topic_class.pattern)
        if known is not None and _declaration(known) != _declaration(topic_class):
            raise InvalidTopic(
                f"{topic_class.__module__}.{topic_class.__qualname__} and {known.__module__}."
                f"{known.__qualname__} both declare the pattern {topic_class.pattern!r}."
            )
        self._classes[topic_class.pattern] = topic_class

    def resolve(self, name: str, namespace: str = "") -> Topic:
        """The topic of this name. Raises ``InvalidTopic`` for what cannot be a name, and
        ``UnknownTopic`` when no declared pattern matches, or only by another spelling
        (``orders/042`` for ``orders/42``)."""
        check_name(name)
        for topic_class in self._classes.values():
            parts = topic_class.parts_of(name)
            if parts is not None:
                topic = topic_class(namespace=namespace, **parts)
                with suppress(InvalidTopic):
                    if topic.builds(name):
                        return topic
        raise UnknownTopic(
            f"No Topic declares {name!r}. Declare one in an app's live.py, with a pattern that "
            "matches it."
        )

    def classes(self) -> list[type[Topic]]:
        return list(self._classes.values())

    @contextmanager
    def isolated(self) -> Iterator[TopicRegistry]:
        """For tests: what is declared inside the block is forgotten after it."""
        before = dict(self._classes)
        try:
            yield self
        finally:
            self._classes = before


registry = TopicRegistry()


def as_topic(topic: Topic | str, namespace: str = "") -> Topic:
    """A topic, given itself or its name."""
    return topic if isinstance(topic, Topic) else registry.resolve(topic, namespace)


def visible_from_timestamp(bound: datetime | None) -> float:
    """Seconds since 1970 of a ``visible_from`` answer; 0 for no bound."""
    return bound.timestamp() if bound is not None else 0.0


def declarations() -> list[dict[str, str]]:
    """The declared patterns and their rules, for those who operate the site."""
    return [
        {
            "pattern": topic_class.pattern,
            "declared by": f"{topic_class.__module__}.{topic_class.__qualname__}",
            "history": _shown_history(topic_class.history),
            "overflow": topic_class.overflow_rule(),
            "transport": "websocket" if topic_class.interactive else "sse",
        }
        for topic_class in registry.classes()
    ]


def _shown_history(history: History | None) -> str:
    return "none" if history is None else f"{history.events} events, {history.age}"
