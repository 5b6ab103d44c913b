"""Who is told of an object, and what: which topics show it, and how it looks to those who read them.

Must keep true: what one audience may see is never sent to another, not even to be hidden there; code
of the project's that fails costs an event, never the save, and never the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Manager, Model

from ..conf import live_settings
from ..core.topics import Topic, as_topic
from .rows import as_loaded

if TYPE_CHECKING:
    from .changes import Changes

MOST_TOPICS = 1000
"""Topics that may show one object to one audience."""


class PresentationFailed(Exception):
    """The project's own code did not answer what it was asked. The message says where."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Readers who see an object in one way. What is a method may be given as its name in the
    ``Changes``, or as a function of the object."""

    name: str
    topics: Callable[[Any], Iterable[Topic | str]] | str
    """Where these readers are told of the object. No topic may be that of two audiences."""
    fields: Sequence[str] = ()
    """Fields or properties whose values they see."""
    data: Callable[[Any], Any] | str | None = None
    """What they see, in place of ``fields``."""
    serializer_class: Any = None
    """A serializer of Django REST framework, in place of ``fields``."""
    related: Sequence[str] | None = None
    """Of the ``related`` paths of the ``Changes`` those that they hear of; None: all."""
    when: Callable[[Any, frozenset[str]], bool] | str | None = None
    """Whether an update is worth telling them; asked after the ``when()`` of the ``Changes``."""

    def present(self, changes: Changes[Any], instance: Model) -> Any:
        """What ``created`` and ``updated`` say of the object here."""
        if self.data is not None:
            return _call(changes, self.data, instance)
        return presented(instance, self.fields, self.serializer_class)

    def is_told(
        self,
        changes: Changes[Any],
        instance: Model,
        changed: frozenset[str],
        related: frozenset[str],
    ) -> bool:
        """Whether these readers hear of an update that is worth telling as such."""
        hidden = frozenset() if self.related is None else related - frozenset(self.related)
        if changed and not changed - hidden:
            return False
        return self.when is None or bool(_call(changes, self.when, instance, changed - hidden))

    def names(
        self, data: Any, changed: frozenset[str], related: frozenset[str]
    ) -> list[str] | None:
        """Which of the changed names these readers are told; None: they are told none, ever."""
        heard = [path for path in sorted(related) if self.related is None or path in self.related]
        shown: Sequence[str] = self.fields
        if not shown and self.serializer_class is not None and isinstance(data, dict):
            shown = [name for name in data if name != "pk"]
        if not shown and not heard:
            return None
        return [name for name in dict.fromkeys([*shown, *heard]) if name in changed]


class Place(NamedTuple):
    """A topic that shows an object, and to whom."""

    topic: Topic
    audience: Audience


def places(changes: Changes[Any], instance: Model) -> dict[str, Place]:
    """Where the object is shown, by the topic's key. Raises whatever the project's code raises, and
    ``PresentationFailed`` for answers that are none."""
    found: dict[str, Place] = {}
    namespace: str | None = None
    for audience in changes.audiences_in_force():
        for topic in _topics(changes, audience, instance):
            if not topic.namespace:
                if namespace is None:
                    namespace = _namespace(changes, instance)
                topic = topic.within(namespace)  # noqa: PLW2901
            known = found.get(topic.key)
            if known is not None and known.audience is not audience:
                raise PresentationFailed(
                    f"{topic.name} would be read by two audiences, {known.audience.name!r} and "
                    f"{audience.name!r}. Give each its own topics."
                )
            found[topic.key] = Place(topic, audience)
    return found


def _topics(changes: Changes[Any], audience: Audience, instance: Model) -> Iterator[Topic]:
    answer = _call(changes, audience.topics, instance)
    if isinstance(answer, str | Topic):
        raise PresentationFailed(f"topics() answered with {answer!r}; put it into a list.")
    topics = list(islice(answer, MOST_TOPICS + 1))
    if len(topics) > MOST_TOPICS:
        raise PresentationFailed(
            f"topics() named more than {MOST_TOPICS} topics. Let a topic stand for many readers."
        )
    for topic in topics:
        if not isinstance(topic, str | Topic):
            raise PresentationFailed(f"topics() named {topic!r}, which is no topic.")
        yield as_topic(topic)


def _namespace(changes: Changes[Any], instance: Model) -> str:
    namespace = changes.namespace(instance)
    if namespace is None:
        if live_settings().NAMESPACE is not None:
            raise PresentationFailed(
                "DJANGO_LIVE['NAMESPACE'] is set, so namespace(self, instance) must name the tenant; "
                '"" is for topics that belong to none.'
            )
        return ""
    if not isinstance(namespace, str):
        raise PresentationFailed(f"namespace() answered with {namespace!r}, which is no string.")
    return namespace


def _call(changes: Changes[Any], what: Callable[..., Any] | str, *args: Any) -> Any:
    return getattr(changes, what)(*args) if isinstance(what, str) else what(*args)


# -- how an object looks ---------------------------------------------------------------------------


def presented(instance: Model, fields: Sequence[str], serializer_class: Any = None) -> Any:
    """The key and the fields, or what the serializer makes of the object."""
    if serializer_class is not None:
        return {"pk": instance.pk, **serializer_class(instance).data}
    return {"pk": instance.pk, **{name: shown(instance, name) for name in fields}}


def shown(instance: Model, name: str) -> Any:
    """The value of a field as JSON can carry it, or of a property; of a relation to many the keys."""
    field = next((f for f in instance._meta.concrete_fields if f.name == name), None)
    if field is not None:
        return as_loaded(field, getattr(instance, field.attname))
    value = getattr(instance, name)
    if isinstance(value, Manager):
        return sorted(value.values_list("pk", flat=True))
    if not callable(value):
        return value
    if alters_data(value):
        raise PresentationFailed(f"{name!r} is a method that changes data; it is not called.")
    return value()


def alters_data(value: Any) -> bool:
    """As in templates: ``delete`` and ``save`` are no values."""
    return bool(getattr(value, "alters_data", False))


@contextmanager
def shielded(using: str) -> Iterator[None]:
    """For the project's own code inside a caller's transaction: a query of it that fails must not
    break that transaction. The first query opens a savepoint; without a query there is none.

    Raises ``PresentationFailed`` in place of a database error.
    """
    connection = transaction.get_connection(using)
    savepoint: list[str | None] = []

    def guard(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not savepoint:
            savepoint.append(None)  # what opens it comes through here, too
            savepoint[0] = connection.savepoint()
        return execute(sql, params, many, context)

    if not connection.in_atomic_block:
        try:
            yield
        except DatabaseError as error:
            raise PresentationFailed(f"a query of it failed: {error}") from error
        return
    try:
        with connection.execute_wrapper(guard):
            yield
        _release(connection, savepoint)
    except DatabaseError as error:
        _undo(connection, savepoint)
        raise PresentationFailed(f"a query of it failed: {error}") from error
    except BaseException:
        _undo(connection, savepoint)
        raise


def _release(connection: BaseDatabaseWrapper, savepoint: list[str | None]) -> None:
    if savepoint and savepoint[0]:
        connection.savepoint_commit(savepoint[0])


def _undo(connection: BaseDatabaseWrapper, savepoint: list[str | None]) -> None:
    if savepoint and savepoint[0]:
        connection.savepoint_rollback(savepoint[0])
        connection.needs_rollback = False
