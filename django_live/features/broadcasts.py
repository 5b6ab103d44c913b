"""One event to many: a topic, users, the members of a group, whoever has a permission, everyone.

Must keep true: who is meant is found out when it is sent, by the users as they are then; accounts that
are not active are not meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from ..core import survey
from ..core.publishing import publish_many
from ..core.topics import Topic, as_topic
from .messages import EveryoneTopic, UserTopic

KINDS = ("topic", "user", "group", "permission", "everyone")
AT_ONCE = 500
"""Events that are handed over together."""
_PERMISSION = re.compile(r"[a-z_][a-z0-9_]*\.\w+", re.IGNORECASE)


class NobodyFound(ValueError):
    """Whom a broadcast is for is not there: no such user, group, permission or topic."""


@dataclass(frozen=True)
class Audience:
    """Whom a broadcast is for. ``value`` is a topic's name, a user's primary key or login name, a group's
    name or primary key, ``"app.codename"``; empty for everyone."""

    kind: str
    value: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.value}".strip()

    def topics(self) -> Iterator[Topic]:
        """The topics that reach them. Raises ``NobodyFound``; ``UnknownTopic`` and ``InvalidTopic`` for
        a topic."""
        if self.kind == "topic":
            yield as_topic(self.value, self.namespace)
        elif self.kind == "everyone":
            yield EveryoneTopic(namespace=self.namespace)
        else:
            for pk in self._users().values_list("pk", flat=True).distinct().iterator():
                yield UserTopic(pk=str(pk), namespace=self.namespace)

    def _users(self) -> QuerySet[Any]:
        active = get_user_model()._default_manager.filter(_is_active())
        if self.kind == "user":
            return active.filter(pk=user_named(self.value).pk)
        if self.kind == "group":
            return active.filter(groups=_group_named(self.value))
        if self.kind == "permission":
            return active.filter(pk__in=_holders(self.value))
        raise NobodyFound(f"{self.kind!r} is none of {', '.join(KINDS)}.")


def user_named(words: str) -> Any:
    """The user with this primary key or login name. Raises ``NobodyFound``."""
    model = get_user_model()
    users = model._default_manager
    found = list(users.filter(**{model.USERNAME_FIELD: words}))
    with suppress(ValueError, ValidationError):  # it cannot be a key
        found += users.filter(pk=words)
    different = {user.pk: user for user in found}
    if not different:
        raise NobodyFound(f"There is no user {words!r}.")
    if len(different) > 1:
        raise NobodyFound(f"{words!r} is one user's primary key and another one's name.")
    return next(iter(different.values()))


def _is_active() -> Q:
    has_flag = any(field.name == "is_active" for field in get_user_model()._meta.fields)
    return Q(is_active=True) if has_flag else Q()


def _group_named(words: str) -> Group:
    group = Group.objects.filter(name=words).first()
    if group is None and words.isdecimal():
        group = Group.objects.filter(pk=int(words)).first()
    if group is None:
        raise NobodyFound(f"There is no group {words!r}.")
    return group


def _holders(words: str) -> list[Any]:
    """Keys of whoever has the permission by any backend that can tell, superusers among them."""
    if not _PERMISSION.fullmatch(words):
        raise NobodyFound(f"{words!r} is not the name of a permission: app.codename.")
    app, _, codename = words.partition(".")
    if not Permission.objects.filter(content_type__app_label=app, codename=codename).exists():
        raise NobodyFound(f"There is no permission {words!r}.")
    keys: dict[Any, None] = {}
    manager: Any = get_user_model()._default_manager
    for backend in settings.AUTHENTICATION_BACKENDS if hasattr(manager, "with_perm") else ():
        holders = manager.with_perm(words, include_superusers=True, backend=backend)
        keys.update(dict.fromkeys(holders.values_list("pk", flat=True)))
    return list(keys)


@dataclass(frozen=True)
class Reach:
    """How many have a page open that would hear it, just now."""

    topics: int
    connections: int
    users: int
    missing: int
    """Processes that did not answer."""


def reach(audience: Audience) -> Reach:
    """Ask every process who listens; raises what ``Audience.topics()`` and ``survey.ask()`` raise."""
    keys = [topic.key for topic in audience.topics()]
    found = survey.ask("reach", {"keys": keys}) if keys else survey.Survey()
    users = {user for answer in found.answers.values() for user in answer.get("users", ())}
    return Reach(len(keys), found.total("connections"), len(users), len(found.missing))


def broadcast(
    audience: Audience,
    type: str,
    data: Any = None,
    *,
    progress: Callable[[int], None] = lambda sent: None,
) -> int:
    """Publish this to all of them; to how many topics. ``progress`` is told how many were sent so far.
    Raises what ``publish()`` and ``Audience.topics()`` raise."""
    topics = audience.topics()
    sent = 0
    while some := list(islice(topics, AT_ONCE)):
        publish_many((topic, type, data) for topic in some)
        sent += len(some)
        progress(sent)
    return sent
