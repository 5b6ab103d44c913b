"""Who is told: a user, many, a queryset, a group, a permission's holders, everybody; a batch at a time.

Must keep true: nobody twice, nobody who is not active, and no more than a batch of users in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model, Q, QuerySet

BATCH = 500
"""Users that are told in one transaction."""


class _Everybody:
    def __repr__(self) -> str:
        return "EVERYBODY"


EVERYBODY = _Everybody()
"""All active users."""


def batches(recipients: Any, using: str) -> Iterator[list[Any]]:
    """The active users among these, in lists of at most ``BATCH``. Raises ``TypeError`` for what
    stands for nobody that could be told."""
    seen: set[Any] = set()
    for users in _batches(recipients, using):
        fresh = [user for user in users if user.pk not in seen]
        if _may_repeat(recipients):
            seen.update(user.pk for user in fresh)
        if fresh:
            yield fresh


def _may_repeat(recipients: Any) -> bool:
    """Whether somebody may be named twice; else nobody has to be remembered."""
    one = (_Everybody, QuerySet, Group, Permission, str, Model)
    return not isinstance(recipients, one)


def _batches(recipients: Any, using: str) -> Iterator[list[Any]]:
    if recipients is None:
        return
    if isinstance(recipients, _Everybody):
        yield from _pages(_users(using))
    elif isinstance(recipients, QuerySet):
        yield from _of_queryset(recipients, using)
    elif isinstance(recipients, Group):
        yield from _pages(_users(using).filter(groups=recipients.pk))
    elif isinstance(recipients, Permission | str):
        yield from _pages(_holders(recipients, using))
    elif isinstance(recipients, Iterable):
        yield from _of_many(recipients, using)
    else:
        yield from _of_many([recipients], using)


def _of_many(many: Iterable[Any], using: str) -> Iterator[list[Any]]:
    """Users, their keys, and whatever else may stand for some."""
    rest = iter(many)
    while some := list(islice(rest, BATCH)):
        keys: list[Any] = []
        for one in some:
            if isinstance(one, get_user_model()):
                keys.append(one.pk)
            elif isinstance(one, int) or (isinstance(one, str) and "." not in one):
                keys.append(one)
            elif isinstance(one, _Everybody | QuerySet | Group | Permission | str):
                yield from _batches(one, using)
            elif one is not None:
                try:
                    keys.append(get_user_model()._meta.pk.to_python(one))
                except (ValidationError, ValueError, TypeError) as error:
                    raise TypeError(f"{one!r} is nobody who could be notified.") from error
        if keys:
            yield list(_users(using).filter(pk__in=keys))


def _of_queryset(queryset: QuerySet[Any], using: str) -> Iterator[list[Any]]:
    if queryset.model._meta.concrete_model is not get_user_model()._meta.concrete_model:
        raise TypeError(f"A queryset of {queryset.model._meta.label} holds no users.")
    if queryset.query.is_sliced:  # no database lets us look further in it
        yield from _of_many(queryset.values_list("pk", flat=True).iterator(BATCH), using)
    else:
        yield from _pages(_users(using).filter(pk__in=queryset.order_by().values("pk")))


def _holders(permission: Permission | str, using: str) -> QuerySet[Any]:
    """Those who have a permission by themselves or by a group, and superusers."""
    if isinstance(permission, str):
        app, dot, codename = permission.partition(".")
        if not dot:
            raise TypeError(f"{permission!r} is no permission; write 'app.codename'.")
        named = Permission.objects.using(using).filter(
            content_type__app_label=app, codename=codename
        )
    else:
        named = Permission.objects.using(using).filter(pk=permission.pk)
    users = get_user_model()._default_manager.using(using)
    holders = users.filter(user_permissions__in=named).order_by().values("pk")
    by_group = users.filter(groups__permissions__in=named).order_by().values("pk")
    return _users(using).filter(Q(is_superuser=True) | Q(pk__in=holders) | Q(pk__in=by_group))


def _users(using: str) -> QuerySet[Any]:
    users = get_user_model()._default_manager.using(using)
    try:
        get_user_model()._meta.get_field("is_active")
    except FieldDoesNotExist:
        return users.all()
    return users.filter(is_active=True)


def _pages(users: QuerySet[Any]) -> Iterator[list[Any]]:
    """By key, each page a query of its own: no cursor stays open over the transactions in between."""
    users = users.order_by("pk")
    page = list(users[:BATCH])
    while page:
        yield page
        page = list(users.filter(pk__gt=page[-1].pk)[:BATCH]) if len(page) == BATCH else []
