"""Who may hear and say what: a table of topics and people, asked of the topics themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser

from ..core import hooks
from ..core.topics import Topic, Viewer, as_topic

NOTHING, SUBSCRIBE, SEND, BOTH = "", "subscribe", "send", "subscribe send"
ANSWERS = (NOTHING, SUBSCRIBE, SEND, BOTH)
PermissionMatrix = dict[str, dict[str, str]]
"""By topic, by person: "", "subscribe", "send" or "subscribe send"."""


def permission_matrix(
    topics: Iterable[Topic | str], people: Mapping[str, Any], *, namespace: str = ""
) -> PermissionMatrix:
    """Ask each topic about each of these people: a user, a ``Viewer``, or None for a visitor who is not
    signed in. From sync code; permissions that are coroutines are asked as well. Raises what they raise,
    ``UnknownTopic`` and ``InvalidTopic``."""
    found: PermissionMatrix = {}
    for given in topics:
        topic = as_topic(given, namespace)
        found[topic.name] = {
            name: _answer(topic, _viewer(person, topic.namespace))
            for name, person in people.items()
        }
    return found


def _viewer(person: Any, namespace: str) -> Viewer:
    if isinstance(person, Viewer):
        return person
    return Viewer(user=AnonymousUser() if person is None else person, namespace=namespace)


def _answer(topic: Topic, viewer: Viewer) -> str:
    may = [
        word
        for word, method in ((SUBSCRIBE, topic.can_subscribe), (SEND, topic.can_send))
        if hooks.call_sync(method, viewer)
    ]
    return " ".join(may)


def assert_permissions(
    expected: Mapping[Any, Mapping[str, str]],
    people: Mapping[str, Any],
    *,
    namespace: str = "",
) -> None:
    """``expected`` has a row for each topic, or name of one. Fails unless it lets each of these people do exactly what is expected. Whoever is left out
    of a row may do nothing. The message is a line for each difference."""
    unknown = {name for row in expected.values() for name in row} - people.keys()
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not among the people.")
    wrong = sorted({may for row in expected.values() for may in row.values()} - {*ANSWERS})
    if wrong:
        raise ValueError(f"{wrong[0]!r} is none of {', '.join(map(repr, ANSWERS))}.")
    found = permission_matrix(expected, people, namespace=namespace)
    differences = []
    for topic, row in expected.items():
        name = as_topic(topic, namespace).name
        for person in people:
            wanted, may = row.get(person, NOTHING), found[name][person]
            if wanted != may:
                differences.append(
                    f"  {name}: {person} may {may or 'nothing'}, expected {wanted or 'nothing'}"
                )
    if differences:
        raise AssertionError("Permissions differ:\n" + "\n".join(differences))
