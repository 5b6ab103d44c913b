"""``NotificationRule``: who is told what when something happens to a model's objects.

Must keep true: a rule hears of what a transaction did to an object as a whole, after its commit; a rule
that raises is named in the log, and neither the save nor another rule hears of it.
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, Q

from ..core.commits import AfterCommit
from ..core.interruptions import raise_interruption
from ..core.state import get_state
from ..features.conditions import fault
from ..features.hearing import Hearer
from ..features.rows import Row, as_model, key_of, with_row
from ..features.telling import Gathered
from .conditions import Condition, comes_true, created
from .content import content
from .kinds import declare_kind
from .models import Notification
from .sending import deliver

logger = logging.getLogger("django_live.notifications")

M = TypeVar("M", bound=Model)

RULES: dict[str, NotificationRule[Any]] = {}


class NotificationRule(Hearer[M]):
    """Notifies people of what happens to a model's objects. Subclass it in an app's ``live.py``; define
    ``recipients()`` and ``message()``."""

    model: type[M]
    when: ClassVar[Any] = created
    """``created``, ``deleted``, ``changed("status", to="paid")``; a ``Q`` of the object's own columns,
    told when it comes true; or a method of the object before and after."""
    kind: ClassVar[str] = ""
    """What people choose by; the name of the class where it is empty."""
    label: ClassVar[Any] = ""
    """The kind's name for people. Without one they cannot choose."""
    site: ClassVar[bool] = True
    """Whether it is told on the site where its recipient has not said otherwise."""
    email: ClassVar[bool] = False
    throttle: ClassVar[timedelta | None] = None
    """At most one in this time for each group, or for each object. Further ones of a group are counted
    silently; without a group they are left out."""
    tells_actor: ClassVar[bool] = False
    """Whether who did it is told, too."""
    tells_the_row = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "model" not in cls.__dict__:
            return
        one = cls()
        one.check()
        if known := RULES.get(one.uid):  # a reload declares it again
            known.disconnect()
        RULES[one.uid] = one
        declare_kind(one.kind_name, cls.label, site=cls.site, email=cls.email, source=one.uid)
        one.connect()

    # -- what a subclass defines -------------------------------------------------------------------

    def recipients(self, instance: M) -> Any:
        """Who is told; whatever ``notify()`` takes, or None."""
        raise NotImplementedError

    def message(self, instance: M) -> str | Mapping[str, Any]:
        """The title; or a dict with ``title``, ``body``, ``url``, ``summary``, ``data``, ``target``."""
        raise NotImplementedError

    def actor(self, instance: M) -> Any:
        """The user who did it, if that is known."""
        return None

    def group(self, instance: M) -> str:
        """Unread ones of the same group become one, ``"5 new comments"``."""
        return ""

    def can_see(self, user: Any, notification: Notification) -> bool:
        """Whether this recipient may see what it is about."""
        return True

    def namespace(self, instance: M) -> str:
        """The tenant, where the site has any."""
        return ""

    # -- hearing -----------------------------------------------------------------------------------

    @property
    def kind_name(self) -> str:
        return self.kind or re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def check(self) -> None:
        """Raise ``ImproperlyConfigured`` for what is wrong with the declaration."""
        rule, (when, _) = type(self), self._when()
        for name in ("recipients", "message"):
            if getattr(rule, name) is getattr(NotificationRule, name):
                raise ImproperlyConfigured(f"{self.uid} does not define {name}(self, instance).")
        if isinstance(when, Q) and (sentence := fault(when, self.model)):
            raise ImproperlyConfigured(f"{self.uid}.when: {sentence}")
        if not isinstance(when, Q) and not callable(when):
            raise ImproperlyConfigured(f"{self.uid}.when is neither a condition nor a Q.")
        if self.throttle is not None and self.throttle <= timedelta(0):
            raise ImproperlyConfigured(f"{self.uid}.throttle must be above 0.")

    def _when(self) -> tuple[Any, bool]:
        """What was declared, and whether it is a method."""
        for owner in type(self).__mro__:
            if "when" in vars(owner):
                when = vars(owner)["when"]
                name = getattr(when, "__qualname__", "")
                return when, name.startswith(f"{owner.__qualname__}.")
        raise AssertionError("the base class has one")

    def _condition(self) -> Condition:
        when, is_method = self._when()
        if isinstance(when, Q):
            return comes_true(when)
        found: Condition = when.__get__(self) if is_method else when
        return found

    def changed(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        self._note([self._record(instance, before, after)], using)

    def tell_rows(
        self, rows: Iterable[tuple[M, Row | None, Row | None]], gathered: Gathered
    ) -> None:
        records: list[_Record] = []
        for one in rows:
            with self.logged(one[0], gathered.using):
                records.append(self._record(*one))
        if records:
            self._note(records, gathered.using)

    def _record(self, instance: M, before: Row | None, after: Row | None) -> _Record:
        model: Any = self.model
        one = with_row(as_model(instance, model), after or before or {})
        return _Record(self, key_of(one, model), one, before, after)

    def _note(self, records: list[_Record], using: str) -> None:
        _Batch.of(transaction.get_connection(using)).add(records, using)

    def tell(self, instance: M, before: Row | None, after: Row | None) -> int:
        """What a transaction did to an object as a whole, after its commit; how many were notified."""
        was = None if before is None else with_row(instance, before)
        now = None if after is None else with_row(instance, after)
        subject: Any = now or was
        if subject is None or not self._condition()(was, now):
            return 0
        group = str(self.group(subject) or "")
        is_quiet = self._is_too_soon(group or str(subject.pk))
        if is_quiet and not group:
            return 0
        message = self.message(subject)
        parts: dict[str, Any]
        parts = {"title": message} if isinstance(message, str) else dict(message)
        actor = self.actor(subject)
        parts.setdefault("target", now)
        told = content(
            parts.pop("title", ""),
            kind=self.kind_name,
            actor=actor,
            group=group,
            namespace=self.namespace(subject),
            source=self.uid,
            **parts,
        )
        left_out = None if self.tells_actor else getattr(actor, "pk", None)
        recipients = self.recipients(subject)
        return deliver(told, recipients, self._sees, is_quiet=is_quiet, leave_out=left_out)

    @property
    def _sees(self) -> Callable[[Any, Notification], Any] | None:
        is_own = type(self).can_see is not NotificationRule.can_see
        return self.can_see if is_own else None

    def _is_too_soon(self, subject: str) -> bool:
        if self.throttle is None:
            return False
        name = f"notify {self.uid} {subject}"[:200]
        try:
            return get_state().count(name, ttl=self.throttle.total_seconds()).value > 1
        except Exception as error:
            raise_interruption(error)
            logger.exception("%s: its throttle could not be asked; it tells.", self.uid)
            return False


@dataclass(eq=False)
class _Record:
    """One change of one object in a transaction."""

    rule: NotificationRule[Any]
    key: Any
    instance: Any
    before: Row | None
    after: Row | None


class _Hook(AfterCommit):
    """Holds records as long as the changes stand: Django forgets it with what is rolled back."""

    def __init__(self, batch: _Batch, records: list[_Record]) -> None:
        super().__init__(batch.tell)
        self.batch = batch
        self.records = records


class _Batch:
    """What one transaction did, found again by the hooks that hang on it."""

    def __init__(self) -> None:
        self._hooks: list[weakref.ref[_Hook]] = []
        self.is_told = False

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> _Batch:
        for hooked in reversed(connection.run_on_commit):
            hook: Any = hooked[1]
            if isinstance(hook, _Hook) and not hook.batch.is_told:
                return hook.batch
        return _Batch()

    def add(self, records: list[_Record], using: str) -> None:
        hook = _Hook(self, records)
        self._hooks.append(weakref.ref(hook))
        transaction.on_commit(hook, using=using)

    def tell(self) -> None:
        """By the first hook that runs, for all: those of what was rolled back are gone."""
        if self.is_told:
            return
        self.is_told = True
        standing: dict[tuple[str, Any], list[_Record]] = {}
        for hook in filter(None, (ref() for ref in self._hooks)):
            for one in hook.records:
                standing.setdefault((one.rule.uid, one.key), []).append(one)
        for records in standing.values():
            first, last = records[0], records[-1]
            try:
                first.rule.tell(last.instance, first.before, last.after)
            except Exception as error:
                raise_interruption(error)
                label = first.rule.model._meta.label
                logger.exception("%s failed for %s %s.", first.rule.uid, label, first.key)
