"""Many new objects told at once: what each would be told is computed in the caller's transaction, its
encoding, naming and numbering are not.

Must keep true: what is told is what ``Telling`` would tell of the same objects. Where that cannot be
known cheaply (a value that the database computed, code that fails) nothing is told here, and the usual
way is taken.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

from django.db import DatabaseError, models
from django.db.models import DecimalField, Field, Model

from ..conf import live_settings
from ..core.bundles import Told
from ..core.publishing import publish_bundles
from ..core.topics import Topic, as_topic
from .audiences import MOST_TOPICS, shielded
from .changes import Changes
from .rows import as_loaded, computed_names
from .telling import CREATED

MANY = 200
"""From so many objects on. Fewer are told at once, and numbered before the caller goes on."""

_AS_THEY_ARE: dict[type[Field[Any, Any]], type] = {
    **dict.fromkeys(
        (
            models.AutoField,
            models.BigAutoField,
            models.SmallAutoField,
            models.IntegerField,
            models.BigIntegerField,
            models.SmallIntegerField,
            models.PositiveIntegerField,
            models.PositiveBigIntegerField,
            models.PositiveSmallIntegerField,
        ),
        int,
    ),
    **dict.fromkeys(
        (models.CharField, models.TextField, models.SlugField, models.EmailField, models.URLField),
        str,
    ),
    models.BooleanField: bool,
    models.FloatField: float,
    models.UUIDField: uuid.UUID,
    models.DateField: dt.date,
    models.DateTimeField: dt.datetime,
    models.TimeField: dt.time,
    models.DurationField: dt.timedelta,
}
"""Values of these types come back from the database as they went there."""


class _Unusual(Exception):
    """One of the objects has to be told in the usual way."""


def told_packed(changes: Any, made: Sequence[Model], using: str) -> bool:
    """Tell of new objects in bundles; False: nothing was told, and they are to be told as usual."""
    if not _is_plain(changes) or any(type(one) is not changes.model for one in made):
        return False
    try:
        with shielded(using):
            teller = _Teller(changes)
            told = teller.tell(made)
        publish_bundles(told, using=using, names=teller.names)
    except DatabaseError:
        raise
    except Exception:  # the usual way finds it again, object by object, and logs it
        return False
    return True


def _is_plain(changes: Any) -> bool:
    """Whether the declaration leaves nothing to be asked but ``topics()`` and ``data()``."""
    return (
        isinstance(changes, Changes)
        and not changes.audiences
        and not changes.is_deferred()
        and changes.deleted_when is None
        and type(changes).namespace is Changes.namespace
        and live_settings().NAMESPACE is None
    )


class _Teller:
    """Tells of objects of one model."""

    def __init__(self, changes: Changes[Any]) -> None:
        self.changes = changes
        self.model: type[Model] = changes.model
        self.fields = list(self.model._meta.concrete_fields)
        if len(self.fields) < 2 or len(self.model._meta.pk_fields) > 1:
            raise _Unusual
        self.values_of = itemgetter(*(field.attname for field in self.fields))
        self.key_place = self.fields.index(self.model._meta.pk_fields[0])
        self.computed = computed_names(self.model)
        self.names: Sequence[str] = ()
        """Of the values that ``data_of`` answers with; none: it answers with the data itself."""
        self.data_of = self._data_maker()
        self.unusual_places: dict[tuple[type, ...], list[int]] = {}
        """By the types of an object's values the places of those that the database may change."""

    def tell(self, made: Sequence[Model]) -> list[Told]:
        # A hot loop: 10,000 objects go through it while their caller waits.
        told: list[Told] = []
        uid, label = self.changes.uid, self.changes.model._meta.label
        key_place = self.key_place
        topics_of, values_of, data_of = self.changes.topics, self.values_of, self.data_of
        for one in made:
            values = values_of(one.__dict__)
            types = tuple(map(type, values))
            if (places := self.unusual_places.get(types)) is None:
                places = self.unusual_places[types] = self._places(types)
            instance = one
            if places:
                instance, values = self._as_loaded(one, values, places)
            group = (uid, label, values[key_place])
            data = data_of(instance, values)
            topics = topics_of(instance)
            if type(topics) is not list or not _are_different(topics):
                topics = _checked(topics)
            told += [(group, topic, CREATED, data) for topic in topics]
        return told

    def _places(self, types: Sequence[type]) -> list[int]:
        places = []
        for place, (field, type_) in enumerate(zip(self.fields, types, strict=True)):
            if hasattr(type_, "resolve_expression"):
                raise _Unusual
            target = getattr(field, "target_field", field)
            if type_ is not type(None) and _AS_THEY_ARE.get(type(target)) is not type_:
                places.append(place)
        if self.key_place in places or types[self.key_place] is type(None):
            raise _Unusual
        return places

    def _as_loaded(
        self, one: Model, values: Sequence[Any], places: Sequence[int]
    ) -> tuple[Model, Sequence[Any]]:
        """The object with its values as the database will give them back."""
        loaded = list(values)
        for place in places:
            field, value = self.fields[place], values[place]
            if type(field) is DecimalField:
                loaded[place] = _decimal(field, value)
            elif field.is_relation:
                raise _Unusual
            else:
                loaded[place] = as_loaded(field, value)
        if all(new is old for new, old in zip(loaded, values, strict=True)):
            return one, values
        other = self.model.__new__(self.model)
        other.__dict__.update(one.__dict__)
        for place in places:
            other.__dict__[self.fields[place].attname] = loaded[place]
        for name in self.computed & other.__dict__.keys():
            del other.__dict__[name]
        return other, loaded

    def _data_maker(self) -> Callable[[Model, Sequence[Any]], Any]:
        changes = self.changes
        places = {field.name: place for place, field in enumerate(self.fields)}
        if (
            type(changes).data is not Changes.data
            or changes.serializer_class is not None
            or not places.keys() >= set(changes.fields)
        ):
            return lambda instance, values: changes.data(instance)
        self.names = ["pk", *dict.fromkeys(name for name in changes.fields if name != "pk")]
        if len(self.names) < 2:
            return lambda instance, values: [values[self.key_place]]
        chosen = itemgetter(self.key_place, *(places[name] for name in self.names[1:]))
        decimals = [
            place
            for place, name in enumerate(self.names[1:], start=1)
            if type(self.fields[places[name]]) is DecimalField
        ]

        def shown(_: Model, values: Sequence[Any]) -> Any:
            data = list(chosen(values))
            for place in decimals:
                if data[place] is not None:
                    data[place] = str(data[place])  # as the encoder would, for each of its topics
            return data

        return shown


def _decimal(field: DecimalField[Any, Any], value: Any) -> Any:
    """``as_loaded()``, faster for what most values are."""
    if type(value) is Decimal:
        text, places = str(value), field.decimal_places
        if places and text[-places - 1 : -places] == "." and len(text) <= field.max_digits:
            return value
    elif type(value) is int and abs(value) < 10 ** (field.max_digits - field.decimal_places):
        return Decimal(value * 10**field.decimal_places).scaleb(-field.decimal_places)
    return as_loaded(field, value)


def _are_different(topics: list[Any]) -> bool:
    """Whether all are topics and no two of one class. (What is no topic has no pattern.)"""
    if len(topics) == 2:
        return (
            isinstance(topics[0], Topic)
            and isinstance(topics[1], Topic)
            and topics[0].pattern != topics[1].pattern
        )
    return len(topics) == 1 and isinstance(topics[0], Topic)


def _checked(answer: Iterable[Topic | str]) -> list[Topic]:
    """The topics, none twice."""
    if isinstance(answer, str | Topic):
        raise _Unusual
    topics = [topic if isinstance(topic, Topic) else as_topic(topic) for topic in answer]
    if len(topics) < 2 or len(set(map(type, topics))) == len(topics):
        return topics
    if len(topics) > MOST_TOPICS:
        raise _Unusual
    return list({topic.key: topic for topic in topics}.values())
