"""What is wrong with a declaration, before anything is saved. Told by the system checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Manager, Model, Q

from ..conf import live_settings
from .audiences import Audience, alters_data
from .changes import Changes
from .conditions import fault
from .related import BadPath, hops


class Mistake(NamedTuple):
    kind: str
    """``model``, ``fields``, ``related``, ``audiences``, ``rules`` or ``namespace``."""
    sentence: str
    hint: str = ""


def mistakes(changes: Changes[Any]) -> Iterator[Mistake]:
    """Everything that is wrong with a declaration."""
    if not changes.is_usable():
        yield Mistake(
            "model",
            f"{changes.uid}.model is {_shown(changes.model)}, which has no table.",
            "Name a model that is neither abstract nor swapped out.",
        )
        return
    yield from _fields(changes)
    yield from _related(changes)
    yield from _audiences(changes)
    yield from _rules(changes)
    if live_settings().NAMESPACE is not None and _inherits(changes, "namespace"):
        yield Mistake(
            "namespace",
            f"{changes.uid} does not name the tenant, but DJANGO_LIVE['NAMESPACE'] is set.",
            'Define namespace(self, instance); "" is for topics that belong to no tenant.',
        )


def _fields(changes: Changes[Any]) -> Iterator[Mistake]:
    named = {"fields": changes.fields}
    named |= {f"audience {one.name!r}": one.fields for one in _listed(changes)}
    for place, names in named.items():
        if isinstance(names, str):
            yield Mistake("fields", f"{changes.uid}, {place}: {names!r} is a string, not a list.")
            continue
        for name in names:
            if sentence := _field_fault(changes.model, name):
                yield Mistake("fields", f"{changes.uid}, {place}: {sentence}")


def _field_fault(model: type[Model], name: Any) -> str:
    if not isinstance(name, str) or name.startswith("_"):
        return f"{name!r} is no name of a field or a property."
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        pass
    else:
        return ""
    value = getattr(model, name, None)
    if value is None and not hasattr(model, name):
        return f"{model._meta.label} has no field and no property {name!r}."
    if alters_data(value) or isinstance(value, Manager):
        return f"{name!r} of {model._meta.label} is no value."
    return ""


def _related(changes: Changes[Any]) -> Iterator[Mistake]:
    if isinstance(changes.related, str):
        yield Mistake("related", f"{changes.uid}.related is a string, not a list of paths.")
        return
    fields = changes.related if isinstance(changes.related, Mapping) else {}
    for path in changes.related:
        try:
            last = hops(changes.model, path)[-1].model
        except BadPath as error:
            yield Mistake("related", f"{changes.uid}.related: {path!r} leads nowhere: {error}")
            continue
        for name in fields.get(path) or ():
            if name not in {field.name for field in last._meta.concrete_fields}:
                sentence = f"{last._meta.label} has no column {name!r}."
                yield Mistake("related", f"{changes.uid}.related, {path!r}: {sentence}")


def _audiences(changes: Changes[Any]) -> Iterator[Mistake]:
    names = [one.name for one in _listed(changes)]
    if len(names) < len(changes.audiences):
        yield Mistake("audiences", f"{changes.uid}.audiences holds what is no Audience.")
    if len(set(names)) < len(names) or "" in names:
        yield Mistake("audiences", f"{changes.uid}: each audience needs a name of its own.")
    if names:
        both = [n for n in ("topics", "data") if not _inherits(changes, n)]
        both += [n for n in ("fields", "serializer_class") if getattr(changes, n)]
        used = {one.topics for one in _listed(changes)} | {one.data for one in _listed(changes)}
        for name in sorted({*both} - used):
            yield Mistake(
                "audiences", f"{changes.uid} has audiences, so nobody asks for its {name}."
            )
    elif _inherits(changes, "topics"):
        yield Mistake("audiences", f"{changes.uid} has neither topics() nor audiences.")
    for one in _listed(changes):
        for method in (one.topics, one.data, one.when):
            if isinstance(method, str) and not callable(getattr(changes, method, None)):
                yield Mistake("audiences", f"{changes.uid} has no method {method!r}.")
        for path in one.related or ():
            if path not in changes.related:
                sentence = f"{path!r} is not among the related paths."
                yield Mistake("audiences", f"{changes.uid}, audience {one.name!r}: {sentence}")


def _rules(changes: Changes[Any]) -> Iterator[Mistake]:
    throttle: Any = changes.throttle
    if throttle is not None and not (isinstance(throttle, timedelta) and throttle > timedelta(0)):
        yield Mistake("rules", f"{changes.uid}.throttle must be a timedelta above 0.")
    rule = changes.deleted_when
    if isinstance(rule, Q) and (sentence := fault(rule, changes.model)):
        hint = "Make deleted_when a method: def deleted_when(self, instance): …"
        yield Mistake("rules", f"{changes.uid}.deleted_when: {sentence}", hint)
    elif rule is not None and not isinstance(rule, Q) and not callable(rule):
        yield Mistake("rules", f"{changes.uid}.deleted_when is neither a Q nor a method.")
    if changes.triggers and (changes.related or throttle is not None):
        sentence = "triggers = True goes with neither related nor throttle."
        yield Mistake("rules", f"{changes.uid}: {sentence}")


def _listed(changes: Changes[Any]) -> list[Audience]:
    return [one for one in changes.audiences if isinstance(one, Audience)]


def _inherits(changes: Changes[Any], name: str) -> bool:
    return getattr(type(changes), name) is getattr(Changes, name)


def _shown(model: Any) -> str:
    return model._meta.label if hasattr(model, "_meta") else repr(model)
