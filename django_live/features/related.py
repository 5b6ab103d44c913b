"""Changes of other objects that an object shows: its lines, its customer, its tags.

A declaration names paths as lookups do, ``"lines__product"``. Every model and every many-to-many
table on the way is listened to; what is heard there becomes a note on the objects that it leads to.

Must keep true: where an object was shown is found out before the change; an object that several
changes of a transaction lead to is looked up and noted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.core.exceptions import FieldDoesNotExist
from django.db.models import ManyToManyField, Model
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.reverse_related import ForeignObjectRel
from django.db.models.signals import m2m_changed

from .audiences import Place
from .deferred import is_noted, write_notes
from .hearing import Hearer
from .notes import Note
from .rows import Row, changed_fields, columns_of, loaded_columns
from .telling import BATCH, Gathered, shown_with

if TYPE_CHECKING:
    from .changes import Changes

LED_TO = "_live_led_to"
"""Where an instance keeps, by watch, the objects that its change leads to and where they were."""


class BadPath(Exception):
    """A path of ``related`` that cannot be followed. The message says why."""


class Watch(Hearer[Model]):
    """Hears of the objects at one place of one path or several."""

    tells_the_row = False

    def __init__(
        self, changes: Changes[Any], model: type[Model], *, there: str, back: str, column: Any
    ) -> None:
        self.changes = changes
        self.model = model
        self.there = there
        """The lookup from the object that is told of to the one that is heard of."""
        self.back = back
        """The lookup to the one before it, which ``column`` points to; "" for the object itself."""
        self.column = column
        self.paths: dict[str, frozenset[str] | None] = {}
        """By path the fields whose change matters; None: any."""

    @property
    def uid(self) -> str:
        return f"{self.changes.uid} {self.there} {self.model._meta.label}"

    def is_silent(self) -> bool:
        return self.changes.is_silent()

    def will_change(self, instance: Model, before: Row | None, using: str) -> None:
        rows = [row for row in (before, loaded_columns(instance)) if row is not None]
        led_to = instance.__dict__.setdefault(LED_TO, {})
        led_to[self.uid] = list(self._notes([(instance.pk, rows)], using))

    def changed(self, instance: Model, before: Row | None, after: Row | None, using: str) -> None:
        notes = instance.__dict__.get(LED_TO, {}).pop(self.uid, [])
        if names := self._names(instance, before, after):
            write_notes(self.changes, [n._replace(changed=names) for n in notes], using)

    def tell_rows(
        self, rows: Iterable[tuple[Any, Row | None, Row | None]], gathered: Gathered
    ) -> None:
        by_names: dict[frozenset[str], list[tuple[Any, Sequence[Row]]]] = {}
        for one, before, after in rows:
            if names := self._names(one, before, after):
                versions = [row for row in (before, after) if row is not None]
                by_names.setdefault(names, []).append((one.pk, versions))
        for names, changed in by_names.items():
            notes = self._notes(changed, gathered.using)
            write_notes(self.changes, (n._replace(changed=names) for n in notes), gathered.using)

    def _names(self, instance: Model, before: Row | None, after: Row | None) -> frozenset[str]:
        """The paths for which it matters."""
        if before is None or after is None:
            return frozenset(self.paths)
        changed = {field.name for field in changed_fields(instance, before, after)}
        if self.column is not None and self.column.name in changed:
            return frozenset(self.paths)
        return frozenset(
            path for path, fields in self.paths.items() if fields is None or changed & fields
        )

    def _notes(self, changed: Sequence[tuple[Any, Sequence[Row]]], using: str) -> Iterator[Note]:
        """Notes on what these objects lead to: from their rows, or by asking."""
        if self.column is None:
            keys = [pk for pk, _ in changed if pk is not None]
            yield from notes_on(self.changes, self.there, keys, using)
            return
        values = {row.get(self.column.attname) for _, rows in changed for row in rows}
        target = self.column.target_field
        lookup = f"{self.back}__{target.name}" if self.back else target.name
        keys = [target.to_python(value) for value in values if value is not None]
        yield from notes_on(self.changes, lookup, keys, using)


class LinkWatch:
    """Hears of a many-to-many table: ``add``, ``remove``, ``set`` and ``clear``, from both sides."""

    def __init__(self, changes: Changes[Any], link: Any, *, there: str, back: str) -> None:
        self.changes = changes
        self.paths: dict[str, None] = {}
        self.there = there
        self.back = back
        field: Any = link.field if isinstance(link, ForeignObjectRel) else link
        self.through = field.remote_field.through
        self.is_reverse = isinstance(link, ForeignObjectRel)
        """Whether the path follows the field from its other side."""

    @property
    def uid(self) -> str:
        return f"{self.changes.uid} {self.there} {self.through._meta.label} m2m"

    def connect(self) -> None:
        m2m_changed.connect(self._changed, self.through, weak=False, dispatch_uid=self.uid)

    def disconnect(self) -> None:
        m2m_changed.disconnect(sender=self.through, dispatch_uid=self.uid)

    def _changed(
        self,
        instance: Model,
        action: str,
        reverse: bool,
        pk_set: set[Any] | None,
        using: str,
        **kwargs: Any,
    ) -> None:
        if self.changes.is_silent():
            return
        led_to = instance.__dict__.setdefault(LED_TO, {})
        with self.changes.logged(instance, using):
            if action.startswith("pre_"):
                led_to[self.uid] = list(self._notes(instance, reverse, pk_set, using))
            else:
                notes = led_to.pop(self.uid, [])
                names = frozenset(self.paths)
                write_notes(self.changes, [n._replace(changed=names) for n in notes], using)

    def _notes(
        self, instance: Model, reverse: bool, pk_set: set[Any] | None, using: str
    ) -> Iterator[Note]:
        if pk_set is not None and not pk_set:
            return iter(())  # all of them were there already
        if reverse == self.is_reverse:  # the instance is on the near side
            lookup, keys = f"{self.back}__pk" if self.back else "pk", [instance.pk]
        elif pk_set is not None:
            lookup, keys = f"{self.back}__pk" if self.back else "pk", list(pk_set)
        else:  # cleared from the far side
            lookup, keys = self.there, [instance.pk]
        return notes_on(self.changes, lookup, keys, using)


def notes_on(changes: Changes[Any], lookup: str, keys: Sequence[Any], using: str) -> Iterator[Note]:
    """Notes on the objects that this lookup leads to from these keys, with where they are shown now.
    Those that the transaction has noted already are not looked up."""
    if lookup in ("pk", *(f.name for f in changes.model._meta.pk_fields)):
        for key in keys:
            if is_noted(changes, key, using):
                yield Note(key, None, frozenset(), moved=True)
        keys = [key for key in keys if not is_noted(changes, key, using)]
    rest = iter(keys)
    while batch := list(islice(rest, BATCH)):
        owners = changes.model._base_manager.using(using)
        found = owners.filter(**{f"{lookup}__in": batch}).order_by("pk").distinct()
        for owner in found.iterator(BATCH):
            yield Note(owner.pk, _shown(changes, owner, using), frozenset(), moved=True)


def _shown(changes: Changes[Any], owner: Model, using: str) -> dict[str, Place] | None:
    if is_noted(changes, owner.pk, using):
        return None
    return shown_with(changes, owner, columns_of(owner), using)


# -- paths -----------------------------------------------------------------------------------------


class Hop(NamedTuple):
    """One step of a path: the relation, and the model that it leads to."""

    link: Any
    model: type[Model]


def hops(model: type[Model], path: str) -> list[Hop]:
    """The steps of a path from the model. Raises ``BadPath``."""
    steps: list[Hop] = []
    current = model
    for part in path.split("__"):
        try:
            link: Any = _link(current, part)
        except FieldDoesNotExist as error:
            raise BadPath(f"{current._meta.label} has no relation {part!r}.") from error
        is_known = isinstance(link, ForeignObject | ManyToManyField | ForeignObjectRel)
        if not is_known or link.related_model in (None, "self"):
            raise BadPath(f"{part!r} of {current._meta.label} is not a relation to one model.")
        current = cast("type[Model]", link.related_model)
        steps.append(Hop(link, current))
    return steps


def _link(model: type[Model], name: str) -> Any:
    """The relation of this name, as lookups call it or as the attribute is called."""
    for one in model._meta.related_objects:
        if name in (one.name, one.get_accessor_name()):
            return one
    return model._meta.get_field(name)


def watches(
    changes: Changes[Any], paths: Mapping[str, Iterable[str] | None]
) -> list[Watch | LinkWatch]:
    """What has to be listened to for these paths. Those that cannot be followed are left out: a check
    tells of them."""
    found: dict[str, Watch | LinkWatch] = {}

    def watch(one: Watch | LinkWatch, path: str, fields: frozenset[str] | None = None) -> None:
        known = found.setdefault(one.uid, one)
        if isinstance(known, Watch):
            known.paths[path] = fields
        else:
            known.paths[path] = None

    for path, fields in paths.items():
        try:
            steps = hops(changes.model, path)
        except BadPath:
            continue
        for number, hop in enumerate(steps):
            there = "__".join(step.link.name for step in steps[: number + 1])
            back = "__".join(step.link.name for step in steps[:number])
            is_pointed_from = isinstance(hop.link, ForeignObjectRel) and not hop.link.many_to_many
            column = hop.link.field if is_pointed_from else None
            matters = None if fields is None else frozenset(fields)
            if hop is not steps[-1]:
                matters = _columns(steps[number + 1].link)  # on the way only the links matter
            one = Watch(changes, hop.model, there=there, back=back, column=column)
            watch(one, path, matters)
            if hop.link.many_to_many:
                link = LinkWatch(changes, hop.link, there=there, back=back)
                watch(link, path)
                if not link.through._meta.auto_created:
                    watch(_through(changes, hop.link, link), path)
    return list(found.values())


def _columns(link: Any) -> frozenset[str]:
    """The column that leads on, where it belongs to the object that is left."""
    return frozenset({link.name} if isinstance(link, ForeignObject) else ())


def _through(changes: Changes[Any], hop: Any, link: LinkWatch) -> Watch:
    """For rows of a many-to-many table of the project's own, which are saved as objects, too."""
    field = hop.field if link.is_reverse else hop
    near = field.m2m_reverse_field_name() if link.is_reverse else field.m2m_field_name()
    column = link.through._meta.get_field(near)
    return Watch(changes, link.through, there=link.there, back=link.back, column=column)
