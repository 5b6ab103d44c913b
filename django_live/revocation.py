"""What a change of users and permissions means for open connections: they are asked again, everywhere.

Listens to the signals Django sends: logout, a saved or deleted user, memberships and permissions.
What Django does not signal (``queryset.update()``, raw SQL, expiry) is found by the periodic re-check.

Must keep true: a fault in here never makes a login, a save or a logout fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_out
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from .core import control

logger = logging.getLogger("django_live.revocation")

UNIMPORTANT = frozenset({"last_login"})
"""Fields of a user that no permission depends on. Every login saves one."""
MOST_USERS = 100
"""Of more users at once each process asks for all its connections instead."""


def listen() -> None:
    """Connect to the signals. Called when the app is ready."""
    user_model: Any = get_user_model()
    user_logged_out.connect(_logged_out, dispatch_uid=f"{__name__}.logout")
    post_save.connect(_user_saved, user_model, dispatch_uid=f"{__name__}.saved")
    post_delete.connect(_user_deleted, user_model, dispatch_uid=f"{__name__}.deleted")
    post_delete.connect(_everybody, Group, dispatch_uid=f"{__name__}.group")
    post_delete.connect(_everybody, Permission, dispatch_uid=f"{__name__}.permission")
    m2m_changed.connect(
        _everybody_after, Group.permissions.through, dispatch_uid=f"{__name__}.group_permissions"
    )
    for name in ("groups", "user_permissions"):  # a project's own user model may have neither
        field = getattr(user_model, name, None)
        if field is not None and hasattr(field, "through"):
            m2m_changed.connect(
                _users_changed, field.through, dispatch_uid=f"{__name__}.user_{name}"
            )


def _logged_out(request: Any, user: Any, **kwargs: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if session_key and user is not None:
        safely(lambda: control.sign_out(session_key), DEFAULT_DB_ALIAS)


def _user_saved(
    instance: Any, created: bool, using: str, update_fields: Any = None, **kwargs: Any
) -> None:
    if not created and not (update_fields is not None and set(update_fields) <= UNIMPORTANT):
        safely(lambda: control.recheck(user=instance, using=using), using)


def _user_deleted(instance: Any, using: str, **kwargs: Any) -> None:
    user_id = instance.pk
    safely(lambda: control.recheck(user=user_id, using=using), using)


def _users_changed(
    instance: Any,
    action: str,
    reverse: bool,
    using: str,
    pk_set: set[Any] | None = None,
    **kwargs: Any,
) -> None:
    if not action.startswith("post_"):
        return
    if not reverse:
        safely(lambda: control.recheck(user=instance, using=using), using)
    elif pk_set is None or len(pk_set) > MOST_USERS:  # group.user_set.clear()
        safely(lambda: control.recheck(using=using), using)
    else:
        for pk in pk_set:
            safely(lambda pk=pk: control.recheck(user=pk, using=using), using)  # type: ignore[misc]


def _everybody(using: str, **kwargs: Any) -> None:
    safely(lambda: control.recheck(using=using), using)


def _everybody_after(action: str, using: str, **kwargs: Any) -> None:
    if action.startswith("post_"):
        _everybody(using)


def safely(command: Callable[[], None], using: str) -> None:
    """Send a command; a fault is logged, and the caller's work goes on."""
    try:
        # A savepoint: a failing statement (the tables are not migrated yet) must not break the
        # caller's transaction on PostgreSQL.
        with transaction.atomic(using=using):
            command()
    except Exception:
        logger.exception("Open connections were not told of a change of permissions.")
