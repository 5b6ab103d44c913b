"""Many new objects told at once: what each would be told is computed in the caller's transaction, its
encoding, naming and numbering are not.

Must keep true: what is told is what ``Telling`` would tell of the same objects. Where that cannot be
known cheaply (a value that the database computed, code that fails) nothing is told here, and the usual
way is taken.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

from django.db import DatabaseError, models
from django.db.models import DecimalField, Field, Model

from ..conf import live_settings
from ..core.bundles import Told
from ..core.interruptions import raise_interruption
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


NONE = type(None)


class _Unusual(Exception):
    """One of the objects has to be told in the usual way."""


def told_packed(changes: Any, made: Sequence[Model], using: str) -> bool:
    """Tell of new objects in bundles; False: nothing was told, and they are to be told as usual."""
    if not _is_plain(changes) or any(type(one) is not changes.model for one in made):
        return False
    try:
        _Teller(changes, using).tell(made)
    except DatabaseError:
        raise
    except Exception as error:  # the usual way finds it again, object by object, and logs it
        raise_interruption(error)
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
    """Tells of objects of one model. It works column by column: 10,000 objects go through it while
    their caller waits, and what is done for each of them in Python is what that costs."""

    def __init__(self, changes: Changes[Any], using: str) -> None:
        self.changes = changes
        self.using = using
        self.model: type[Model] = changes.model
        self.fields = list(self.model._meta.concrete_fields)
        if len(self.model._meta.pk_fields) > 1:
            raise _Unusual
        self.key_place = self.fields.index(self.model._meta.pk_fields[0])
        self.shown_places = self._shown_places()
        """Where the columns are that the data consists of; None: it is asked for by ``data()``."""

    def tell(self, made: Sequence[Model]) -> None:
        with shielded(self.using):
            instances, columns = self._as_loaded(made)
            topics = _checked([self.changes.topics(one) for one in instances])
            names, data = self._data(instances, columns)
        publish_bundles(
            Told(columns[self.key_place], topics, data, names),
            CREATED,
            subject=(self.changes.uid, self.model._meta.label),
            using=self.using,
        )

    def _as_loaded(self, made: Sequence[Model]) -> tuple[Sequence[Model], list[list[Any]]]:
        """The objects, and their values by column, as the database will give them back."""
        instances = list(made)
        rows = [one.__dict__ for one in made]
        columns: list[list[Any]] = []
        for place, field in enumerate(self.fields):
            given = list(map(itemgetter(field.attname), rows))
            loaded = self._column(field, given, is_key=place == self.key_place)
            for number in _differences(given, loaded):
                if instances[number] is made[number]:
                    instances[number] = self._copy(made[number])
                instances[number].__dict__[field.attname] = loaded[number]
            columns.append(loaded)
        return instances, columns

    def _column(self, field: Field[Any, Any], given: list[Any], *, is_key: bool) -> list[Any]:
        types = set(map(type, given))
        if any(hasattr(one, "resolve_expression") for one in types) or (is_key and NONE in types):
            raise _Unusual
        target: Field[Any, Any] = getattr(field, "target_field", field)
        if types <= {NONE, _AS_THEY_ARE.get(type(target))}:
            return given
        if field.is_relation or is_key:
            raise _Unusual
        if type(field) is DecimalField:
            return [None if value is None else _decimal(field, value) for value in given]
        return [None if value is None else as_loaded(field, value) for value in given]

    def _copy(self, one: Model) -> Model:
        other = self.model.__new__(self.model)
        other.__dict__.update(one.__dict__)
        for name in computed_names(self.model) & other.__dict__.keys():
            del other.__dict__[name]
        return other

    def _shown_places(self) -> dict[str, int] | None:
        changes = self.changes
        places = {field.name: place for place, field in enumerate(self.fields)}
        if (
            type(changes).data is not Changes.data
            or changes.serializer_class is not None
            or not places.keys() >= set(changes.fields)
        ):
            return None
        return {"pk": self.key_place, **{n: places[n] for n in changes.fields if n != "pk"}}

    def _data(
        self, instances: Sequence[Model], columns: Sequence[list[Any]]
    ) -> tuple[list[str], list[list[Any]]]:
        """What the objects are told with, and the names of its columns; none: one column has all."""
        if self.shown_places is None:
            return [], [[self.changes.data(one) for one in instances]]
        shown = []
        for place in self.shown_places.values():
            column = columns[place]
            if type(self.fields[place]) is DecimalField:
                # As the encoder would, for each of an object's topics.
                column = [None if value is None else str(value) for value in column]
            shown.append(column)
        return list(self.shown_places), shown


def _differences(given: list[Any], loaded: list[Any]) -> list[int]:
    """The numbers of the rows whose value is another one now."""
    if given is loaded:
        return []
    pairs = enumerate(zip(given, loaded, strict=True))
    return [number for number, (old, new) in pairs if old is not new]


def _decimal(field: DecimalField[Any, Any], value: Any) -> Any:
    """``as_loaded()``, faster for what most values are."""
    if type(value) is Decimal:
        text, places = str(value), field.decimal_places
        if places and text[-places - 1 : -places] == "." and len(text) <= field.max_digits:
            return value
    elif type(value) is int and abs(value) < 10 ** (field.max_digits - field.decimal_places):
        return Decimal(value * 10**field.decimal_places).scaleb(-field.decimal_places)
    return as_loaded(field, value)


def _checked(answers: Sequence[Any]) -> list[Sequence[Topic]]:
    """What ``topics()`` answered for each object: topics, none twice."""
    known: dict[tuple[type, ...], bool] = {}
    checked: list[Sequence[Topic]] = []
    for answer in answers:
        if type(answer) is list:
            types = tuple(map(type, answer))
            if types not in known:
                known[types] = _are_different(types)
            if known[types]:
                checked.append(answer)
                continue
        checked.append(_topics(answer))
    return checked


def _are_different(types: tuple[type, ...]) -> bool:
    """Whether all are classes of topics, and topics of no two of them can be the same."""
    patterns = {one.pattern for one in types if issubclass(one, Topic)}
    return len(patterns) == len(types)


def _topics(answer: Iterable[Topic | str]) -> list[Topic]:
    if isinstance(answer, str | Topic):
        raise _Unusual
    topics = [topic if isinstance(topic, Topic) else as_topic(topic) for topic in answer]
    if len(topics) > MOST_TOPICS:
        raise _Unusual
    return list({topic.key: topic for topic in topics}.values())
