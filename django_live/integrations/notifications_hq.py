"""django-notifications-hq: what it notifies of goes live, by ``DJANGO_LIVE["NOTIFICATIONS_HQ"] = True``.

Each of its notifications becomes one of ours, with the bell, the pages and what people have chosen; and
what is read here is read there. Needs ``django_live.notifications`` and that package in
``INSTALLED_APPS``.

Must keep true: its own save is never made to fail; one of its notifications is told once.
"""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.db.models.signals import post_save

from ..conf import live_settings
from ..core.interruptions import raise_interruption
from ..notifications.inbox import mark_read, when_read
from ..notifications.kinds import declare_kind
from ..notifications.models import Notification
from ..notifications.sending import notify

logger = logging.getLogger("django_live.notifications")

MODEL = str("notifications.Notification")  # noqa: UP018 - not for mypy, whose Django plugin has not got it
KIND = "notifications_hq"
THEIRS = "notifications_hq"
"""Where the data of ours has the key of theirs."""


def listen() -> None:
    """Hear of its notifications. Called when the apps are ready; the setting is read at each one."""
    model: Any = apps.get_model(MODEL)
    declare_kind(KIND)
    post_save.connect(_saved, model, dispatch_uid=__name__)
    when_read(_read_here)


def _saved(instance: Any, created: bool, using: str, raw: bool, **kwargs: Any) -> None:
    if raw or not live_settings().NOTIFICATIONS_HQ:
        return
    try:
        if created:
            _tell(instance, using)
        elif not instance.unread:
            _mark_ours(instance)
    except Exception as error:
        raise_interruption(error)
        logger.exception("django-notifications-hq: %s was not told.", instance.pk)


def _tell(theirs: Any, using: str) -> None:
    notify(
        theirs.recipient,  # as text, the key could be taken for a permission
        _title(theirs),
        kind=KIND,
        body=theirs.description or "",
        url=_address(theirs),
        data={THEIRS: theirs.pk},
        using=using,
    )


def _title(theirs: Any) -> str:
    """As it says itself, but for the time: "ann commented on the report"."""
    parts = [theirs.actor, theirs.verb]
    if theirs.action_object is not None:
        parts.append(theirs.action_object)
    title = " ".join(str(part) for part in parts if part is not None)
    return title if theirs.target is None else f"{title} \u2192 {theirs.target}"


def _address(theirs: Any) -> str:
    for thing in (theirs.action_object, theirs.target):
        if hasattr(thing, "get_absolute_url"):
            return str(thing.get_absolute_url())
    return ""


def _mark_ours(theirs: Any) -> None:
    ours = Notification.objects.filter(
        recipient=theirs.recipient_id, kind=KIND, read_at=None, **{f"data__{THEIRS}": theirs.pk}
    )
    ids = list(ours.values_list("pk", flat=True))
    if ids:
        mark_read(theirs.recipient, ids)


def _read_here(read: Any) -> None:
    """Their rows of those that were read here: in one statement, which sends no signal."""
    if not live_settings().NOTIFICATIONS_HQ:
        return
    keys = [data.get(THEIRS) for data in read.filter(kind=KIND).values_list("data", flat=True)]
    if keys:
        model: Any = apps.get_model(MODEL)
        model._default_manager.filter(pk__in=keys, unread=True).update(unread=False)
