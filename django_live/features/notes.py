"""Notes of changes: rows in the writer's transaction that say which object changed and where it was shown,
to be presented after it (``presenting.py``)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.events import encode_data
from ..models import PendingChange
from .audiences import Place
from .throttle import cooling_until

if TYPE_CHECKING:
    from .changes import Changes


class Note(NamedTuple):
    """That an object changed. ``topics``: where it was shown before; None: that was noted earlier."""

    pk: Any
    topics: Mapping[str, Place] | None
    changed: frozenset[str]
    moved: bool = False
    """Whether it may have come to a topic or have left one."""


def row_of(changes: Changes[Any], key: str, note: Note, *, is_first: bool) -> PendingChange:
    """The row that stands for this note. ``is_first``: it says where the object was shown."""
    facts: dict[str, Any] = {"pk": note.pk, "changed": sorted(note.changed), "moved": note.moved}
    if is_first:
        places = (note.topics or {}).values()
        facts["topics"] = [[place.topic.namespace, place.topic.name] for place in places]
    return PendingChange(
        source=changes.uid,
        object_key=key,
        facts=encode_data(facts),
        due=0.0 if note.moved or changes.throttle is None else cooling_until(key),
        created=time.time(),
    )


def object_key(source: str, pk: Any) -> str:
    """Stands for one object of one source."""
    text = f"{source}\0{encode_data(pk)}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
