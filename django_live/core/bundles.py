"""Station 2: many events in one outbox row. A statement that writes 10,000 objects would otherwise
write 20,000 rows, and its caller would wait for that.

A bundle holds events of topics of *one* class, so that whoever numbers a topic knows by its class
which bundles may concern it. Packing costs the caller the JSON of the data and no more: names, keys
and texts of the single events are made when the bundle is numbered.

The text, version 1: ``{"v": 1, "names": [], "events": [[topic, type, data], …]}``. ``topic`` is the
list of the pattern's parts where they are whole numbers and texts, or else ``{"name": …, "namespace":
…}``. Where there are ``names``, each event's data is the list of their values.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..exceptions import InvalidTopic
from .events import Draft, encode_data
from .topics import Topic, registry

logger = logging.getLogger("django_live.outbox")

VERSION = 1
MOST_EVENTS = 500
MOST_BYTES = 256 * 1024
"""Of a bundle with more than one event. It is numbered in one transaction."""

_PLAIN = {int, str}


class Bundle(NamedTuple):
    """One row."""

    key: str
    """Stands for the class of its topics."""
    text: str


class UnreadableBundle(Exception):
    """Nothing in this process can say what the bundle holds: a newer release wrote it, or a class of
    topics is declared no longer."""


Told = tuple[Hashable, Topic, str, Any]
"""What an event tells of, its topic, its type, and data that is not JSON yet. (No NamedTuple: making
20,000 of them takes a tenth of the time that packing them does.)"""


@lru_cache(maxsize=1024)
def bundle_key(pattern: str) -> str:
    """What bundles of the topics of this class are found by. No topic's key begins so."""
    return "*" + hashlib.blake2b(pattern.encode(), digest_size=15).hexdigest()


def declared_keys() -> dict[str, type[Topic]]:
    """The keys of all declared classes."""
    return {bundle_key(one.pattern): one for one in registry.classes()}


def pack(told: Iterable[Told], names: Sequence[str] = ()) -> list[tuple[Bundle, list[Hashable]]]:
    """Bundles of these events, and by bundle the group of each event. The events of one topic keep
    their order. With ``names`` the data of each is a sequence of their values. Raises
    ``InvalidEvent`` for data that is no JSON."""
    by_pattern: dict[str, tuple[list[Any], list[Hashable]]] = {}
    for group, topic, type, data in told:
        if (found := by_pattern.get(topic.pattern)) is None:
            found = by_pattern[topic.pattern] = ([], [])
        found[0].append((_place(topic), type, data))
        found[1].append(group)
    packed: list[tuple[Bundle, list[Hashable]]] = []
    for pattern, (events, groups) in by_pattern.items():
        for start in range(0, len(events), MOST_EVENTS):
            part = slice(start, start + MOST_EVENTS)
            packed += _packed(bundle_key(pattern), names, events[part], groups[part])
    return packed


def _packed(
    key: str, names: Sequence[str], events: list[Any], groups: list[Hashable]
) -> list[tuple[Bundle, list[Hashable]]]:
    text = encode_data({"v": VERSION, "names": names, "events": events})
    if len(text) > MOST_BYTES and len(events) > 1:
        half = len(events) // 2
        return _packed(key, names, events[:half], groups[:half]) + _packed(
            key, names, events[half:], groups[half:]
        )
    return [(Bundle(key, text), groups)]


def _place(topic: Topic) -> Any:
    kwargs = topic.kwargs
    parts = list(kwargs.values())
    if len(parts) > 1:  # in the order of the pattern, which need not be that of the call
        parts = [kwargs[name] for name in topic._parts]  # noqa: SLF001
    if not topic.namespace and _PLAIN.issuperset(map(type, parts)):
        return parts
    return {"name": topic.name, "namespace": topic.namespace}


def unpack(key: str, text: str) -> list[tuple[Topic, Draft]]:
    """The events of a bundle. Raises ``UnreadableBundle``.

    A topic that its class cannot make (a part that does not fit the pattern) raises ``InvalidTopic``
    where one event is published; here that is logged, and its events are left out.
    """
    topic_class = declared_keys().get(key)
    if topic_class is None:
        raise UnreadableBundle("no Topic class that is declared here has this key")
    content = json.loads(text)
    if content["v"] != VERSION:
        raise UnreadableBundle(f"it has the version {content['v']}")
    names = content["names"]
    topics: dict[str, Topic | None] = {}
    entries: list[tuple[Topic, Draft]] = []
    for place, type, data in content["events"]:
        known_by = repr(place)
        if known_by not in topics:
            topics[known_by] = _made(topic_class, place)
        topic = topics[known_by]
        if topic is not None:
            if names:
                data = dict(zip(names, data, strict=True))  # noqa: PLW2901
            entries.append((topic, Draft(type, encode_data(data))))
    return entries


def _made(topic_class: type[Topic], place: Any) -> Topic | None:
    try:
        if isinstance(place, dict):
            return registry.resolve(place["name"], place["namespace"])
        topic = topic_class(**dict(zip(topic_class._parts, place, strict=True)))  # noqa: SLF001
        topic.key  # noqa: B018 - makes the name, or says that it cannot
    except InvalidTopic as error:
        logger.warning("Events for %s of %r are not sent: %s", topic_class.__name__, place, error)
        return None
    return topic
