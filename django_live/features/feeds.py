"""Feeds: the newest items first, as each viewer may see them.

A feed is a topic, declared with the model of its items: saves are told to it by themselves. What it
says is only *that* something changed; each page then asks for its items again, as its viewer may see
them. So what one viewer may not see never leaves the server for them.

Must keep true: a page of a feed neither repeats nor leaves out an item because others came meanwhile:
it begins at a place among the items, not after so many of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple

from django.core.signing import BadSignature, Signer
from django.db.models import Field, Model, Q, QuerySet

from ..core.topics import History, Topic, Viewer
from ..exceptions import InvalidTopic
from .changes import Changes

MOST_COUNTED = 99
"""New items that are counted; beyond that it is enough to know that there are more."""


class FeedPage(NamedTuple):
    """What a page of a feed shows."""

    items: list[Any]
    first: str
    """The place of the first item; empty without items."""
    older: str
    """The place that the items behind this page are older than; empty if there are none."""
    new: int
    """Items above this page that the reader has not asked for; ``MOST_COUNTED + 1`` for more."""


class Feed(Topic):
    """Subclass it in an app's ``live.py``, with a ``pattern``, a ``model``, ``can_subscribe()`` and
    ``items()``."""

    history = History(events=1_000, age=timedelta(days=1))

    model: ClassVar[type[Model]]
    """Whose objects are the items."""
    newest_by: ClassVar[str] = "pk"
    """The field that says which item is newer: a time at which it came, that does not change."""
    size: ClassVar[int] = 20
    """Items on a page at most."""
    related: ClassVar[Any] = ()
    """Paths to objects that are shown with an item: as ``Changes.related``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "pattern" not in cls.__dict__:
            return
        if not hasattr(cls, "model") or cls.size < 1:
            raise InvalidTopic(f"{cls.__qualname__} is a feed: it needs a model, and a size ≥ 1.")
        if cls._field_of_order().null:
            raise InvalidTopic(
                f"{cls.__qualname__}.newest_by is {cls.newest_by!r}, which may be empty: an item "
                "without it has no place."
            )
        for part in cls._parts:
            if hasattr(Feed, part) or part == "model":
                raise InvalidTopic(
                    f"{cls.__qualname__}.pattern names a part {part!r}, which is an attribute of "
                    "Feed. Give the part another name."
                )
        members = {
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.changes",
            "__doc__": None,
            "model": cls.model,
            "related": cls.related,
            "feed": cls,
        }
        type(f"{cls.__name__}Changes", (FeedChanges,), members)

    # -- what a project says -----------------------------------------------------------------------

    def items(self, viewer: Viewer) -> QuerySet[Any]:
        """The items that this viewer may see, in any order."""
        raise TypeError(f"{type(self).__qualname__} must define items(self, viewer).")

    @classmethod
    def shows(cls, item: Any) -> Iterable[Topic]:  # noqa: ARG003
        """The feeds of this class that show the item."""
        if cls._parts:
            raise TypeError(f"{cls.__qualname__} must define shows(cls, item).")
        return [cls()]

    @classmethod
    def tenant_of(cls, item: Any) -> str | None:  # noqa: ARG003
        """The namespace of ``shows()``: as ``Changes.namespace()``."""
        return None

    # -- pages -------------------------------------------------------------------------------------

    def page(self, viewer: Viewer, *, before: str = "", top: str = "") -> FeedPage:
        """The newest items that the viewer may see. ``before``: those older than this place. ``top``:
        those from this place on, with the number of newer ones. A place that is none is ignored."""
        items = self.items(viewer)
        field = self._field_of_order()
        older, from_top = self._older_than(before), self._older_than(top, itself=True)
        new = 0
        if older is not None:
            found = items.filter(older)
        elif from_top is not None:
            found = items.filter(from_top)
            new = items.exclude(from_top)[: MOST_COUNTED + 1].count()
        else:
            found = items
        shown = list(found.order_by(f"-{field.name}", "-pk")[: self.size + 1])
        has_older, shown = len(shown) > self.size, shown[: self.size]
        places = [self._place(item) for item in (shown[0], shown[-1])] if shown else ["", ""]
        return FeedPage(shown, places[0], places[1] if has_older else "", new)

    @classmethod
    def _field_of_order(cls) -> Field[Any, Any]:
        name = cls.model._meta.pk.name if cls.newest_by == "pk" else cls.newest_by
        field: Field[Any, Any] = cls.model._meta.get_field(name)  # type: ignore[assignment]
        return field

    @property
    def _signer(self) -> Signer:
        return Signer(salt=f"django_live.feed {type(self).__module__}.{type(self).__qualname__}")

    def _place(self, item: Model) -> str:
        """Where the item stands. Signed, so that what comes back is a value of this field."""
        fields = (self._field_of_order(), item._meta.pk)
        return self._signer.sign_object([field.value_to_string(item) for field in fields])

    def _older_than(self, place: str, *, itself: bool = False) -> Q | None:
        try:
            value, pk = self._signer.unsign_object(place)
        except (BadSignature, ValueError):
            return None
        pk = self.model._meta.pk.to_python(pk)
        below = Q(pk__lte=pk) if itself else Q(pk__lt=pk)
        field = self._field_of_order()
        if field.primary_key:
            return below
        value = field.to_python(value)
        return Q(**{f"{field.name}__lt": value}) | (Q(**{field.name: value}) & below)


class FeedChanges(Changes[Any]):
    """What a feed hears of its model. Says nothing of the item: the feed's readers may differ in what
    they may see."""

    feed: ClassVar[type[Feed]]

    def topics(self, instance: Any) -> Iterable[Topic]:
        return self.feed.shows(instance)

    def namespace(self, instance: Any) -> str | None:
        return self.feed.tenant_of(instance)

    def data(self, instance: Any) -> None:
        return None

    def farewell(self, key: dict[str, Any]) -> None:
        return None
