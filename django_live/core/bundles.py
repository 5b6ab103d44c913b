"""Station 2: many events in one outbox row. A statement that writes 10,000 objects would otherwise
write 20,000 rows, and its caller would wait for that.

A bundle holds events of topics of *one* class, so that whoever numbers a topic knows by its class
which bundles may concern it. Packing costs the caller the JSON of the data and no more: names, keys
and texts of the single events are made when the bundle is numbered.

The text, version 1, has columns with a value for each event: ``{"v": 1, "type": …, "parts": [[…], …],
"data": [[…], …], "names": […], "named": {…}}``. ``parts`` are those of the topic, in the order of its
pattern; where they are more than whole numbers and texts, or the topic has a namespace, ``named`` has
its ``[name, namespace]`` by the event's place. The data is the one column of ``data``, or, with
``names``, a dict of one value out of each.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
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


class Told(NamedTuple):
    """What is told of many objects. Each list has an element for each of them: this is cheaper than an
    object for each event."""

    keys: Sequence[Any]
    topics: Sequence[Sequence[Topic]]
    """Those that are told of it."""
    data: Sequence[Sequence[Any]]
    """One column of data that is not JSON yet; with ``names`` a column for each of them."""
    names: Sequence[str] = ()


@lru_cache(maxsize=1024)
def bundle_key(pattern: str) -> str:
    """What bundles of the topics of this class are found by. No topic's key begins so."""
    return "*" + hashlib.blake2b(pattern.encode(), digest_size=15).hexdigest()


def declared_keys() -> dict[str, type[Topic]]:
    """The keys of all declared classes."""
    return {bundle_key(one.pattern): one for one in registry.classes()}


def pack(told: Told, type: str) -> list[tuple[Bundle, list[Any]]]:
    """Bundles of events of this type, and by bundle the key of each event's object. The events of one
    topic keep their order. Raises ``InvalidEvent`` for data that is no JSON."""
    by_pattern: dict[str, tuple[list[Topic], list[int]]] = {}
    for row, topics in enumerate(told.topics):
        for topic in topics:
            if (found := by_pattern.get(topic.pattern)) is None:
                found = by_pattern[topic.pattern] = ([], [])
            found[0].append(topic)
            found[1].append(row)
    packed: list[tuple[Bundle, list[Any]]] = []
    for of_pattern, rows in by_pattern.values():
        for start in range(0, len(rows), MOST_EVENTS):
            part = slice(start, start + MOST_EVENTS)
            packed += _packed(told, type, of_pattern[part], rows[part])
    return packed


def _packed(
    told: Told, type: str, topics: Sequence[Topic], rows: Sequence[int]
) -> list[tuple[Bundle, list[Any]]]:
    """``topics`` are of one class, and ``rows`` says of which object each of them is told."""
    content = {
        "v": VERSION,
        "type": type,
        "names": told.names,
        "data": [[column[row] for row in rows] for column in told.data],
        **_places(topics),
    }
    text = encode_data(content)
    if len(text) > MOST_BYTES and len(rows) > 1:
        half = len(rows) // 2
        return _packed(told, type, topics[:half], rows[:half]) + _packed(
            told, type, topics[half:], rows[half:]
        )
    return [(Bundle(bundle_key(topics[0].pattern), text), [told.keys[row] for row in rows])]


def _places(topics: Sequence[Topic]) -> dict[str, Any]:
    """What stands for topics of one class."""
    names = list(topics[0]._parts)  # noqa: SLF001
    parts: list[list[Any]] = [[getattr(topic, name) for topic in topics] for name in names]
    named: dict[int, tuple[str, str]] = {}
    if any(topic.namespace for topic in topics) or not all(map(_are_plain, parts)):
        for place, topic in enumerate(topics):
            if topic.namespace or not _are_plain(topic.kwargs.values()):
                named[place] = (topic.name, topic.namespace)
                for column in parts:
                    column[place] = None
    return {"parts": parts, "named": named}


def _are_plain(values: Iterable[Any]) -> bool:
    return _PLAIN.issuperset(map(type, values))


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
    topics: dict[Any, Topic | None] = {}
    entries: list[tuple[Topic, Draft]] = []
    for place, data in zip(_places_in(content), _data_in(content), strict=True):
        if place not in topics:
            topics[place] = _made(topic_class, place)
        topic = topics[place]
        if topic is not None:
            entries.append((topic, Draft(content["type"], encode_data(data))))
    return entries


def _places_in(content: dict[str, Any]) -> list[tuple[Any, ...] | _Named]:
    places: list[tuple[Any, ...] | _Named] = list(zip(*content["parts"], strict=True))
    if not content["parts"]:
        places = [()] * len(content["data"][0])
    for place, named in content["named"].items():
        places[int(place)] = _Named(*named)
    return places


def _data_in(content: dict[str, Any]) -> Iterable[Any]:
    names, columns = content["names"], content["data"]
    if not names:
        return list(columns[0])
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class _Named(NamedTuple):
    name: str
    namespace: str


def _made(topic_class: type[Topic], place: tuple[Any, ...] | _Named) -> Topic | None:
    try:
        if isinstance(place, _Named):
            return registry.resolve(place.name, place.namespace)
        topic = topic_class(**dict(zip(topic_class._parts, place, strict=True)))  # noqa: SLF001
        topic.key  # noqa: B018 - makes the name, or says that it cannot
    except InvalidTopic as error:
        logger.warning("Events for %s of %r are not sent: %s", topic_class.__name__, place, error)
        return None
    return topic
