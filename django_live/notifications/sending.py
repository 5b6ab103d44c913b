"""``notify()``: after the commit, a batch of recipients at a time, each in a transaction of its own.

Must keep true: nothing in here reaches the caller whose transaction has committed; a batch that fails
costs nobody outside of it anything; memory does not grow with the recipients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, IntegrityError, router
from django.db.models import F, Model
from django.utils import timezone

from ..core.commits import after_commit
from ..core.interruptions import raise_interruption
from ..core.publishing import Item, NumberingFailed, OwnTransaction, own_transaction
from . import mail
from .content import Content, content
from .inbox import inbox_of
from .kinds import Channels, channels_of
from .models import Notification
from .recipients import batches

logger = logging.getLogger("django_live.notifications")

ATTEMPTS = 3
"""How often a batch is tried whose users or groups change at the same time."""

CanSee = Callable[[Any, Notification], Any]


def notify(
    recipients: Any,
    title: str,
    *,
    kind: str = "message",
    body: str = "",
    url: str = "",
    summary: str = "",
    actor: Any = None,
    target: Model | None = None,
    data: Any = None,
    group: str = "",
    can_see: CanSee | None = None,
    namespace: str = "",
    using: str | None = None,
) -> None:
    """Tell these people something, once the transaction (of the database ``using``) has committed.

    ``recipients`` is a user, a group, a permission (``"app.codename"``), ``EVERYBODY``, a queryset of
    users, or an iterable of these and of users' keys. ``can_see(user, notification)`` says no to those
    who may not see what it is about. With a ``group`` it is counted to an unread one of the same kind
    and group; ``summary`` is their title, ``"{count} new comments"``.

    Raises ``ValueError`` without a title, ``RuntimeError`` inside a running event loop. What goes wrong
    after the commit is logged.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("notify() would block the event loop. Use `await anotify(…)`.")
    told = content(
        title,
        kind=kind,
        body=body,
        url=url,
        summary=summary,
        actor=actor,
        target=target,
        data=data,
        group=group,
        namespace=namespace,
    )

    def work() -> None:
        deliver(told, recipients, can_see)

    after_commit(work, using or DEFAULT_DB_ALIAS)


async def anotify(recipients: Any, title: str, **options: Any) -> None:
    """``notify()`` for async callers; the same arguments and errors."""
    await sync_to_async(notify)(recipients, title, **options)


def deliver(
    told: Content,
    recipients: Any,
    can_see: CanSee | None = None,
    *,
    is_quiet: bool = False,
    leave_out: Any = None,
) -> int:
    """Tell them now; how many were told. A fault is logged and costs its batch alone. ``is_quiet``: with
    neither toast nor e-mail. ``leave_out``: the key of a user who is not told."""
    using = router.db_for_write(Notification)
    count = 0
    try:
        for users in batches(recipients, using):
            chosen = [user for user in users if user.pk != leave_out]
            try:
                count += _Delivery(told, can_see, using, is_quiet).to(chosen)
            except Exception as error:
                raise_interruption(error)
                logger.exception("%s: %d people were not notified.", told.source, len(chosen))
    except Exception as error:
        raise_interruption(error)
        logger.exception("%s: who is to be notified could not be had.", told.source)
    return count


class _Delivery:
    """One batch."""

    def __init__(self, told: Content, can_see: CanSee | None, using: str, is_quiet: bool) -> None:
        self.told = told
        self.can_see = can_see
        self.using = using
        self.is_quiet = is_quiet

    def to(self, users: Sequence[Any]) -> int:
        channels = channels_of([user.pk for user in users], self.told.kind, self.using)
        users = [user for user in users if any(channels[user.pk]) and self._may_see(user)]
        mails = 0
        for attempt in range(ATTEMPTS):
            try:
                with own_transaction(self.using, numbers=not attempt) as own:
                    mails = self._write(users, channels, own) if users else 0
                break
            except (IntegrityError, NumberingFailed) as error:
                if attempt == ATTEMPTS - 1:
                    raise
                if isinstance(error, IntegrityError):
                    # A user was deleted since, or somebody else has begun the same group.
                    users = self._still_there(users)
        if mails:
            mail.send_soon(self.using)
        return len(users)

    def _may_see(self, user: Any) -> bool:
        if self.can_see is None:
            return True
        try:
            return bool(self.can_see(user, self.told.notification(user)))
        except Exception as error:
            raise_interruption(error)
            logger.exception("%s: can_see() failed for user %s.", self.told.source, user.pk)
            return False

    def _still_there(self, users: Sequence[Any]) -> list[Any]:
        keys = [user.pk for user in users]
        manager = type(users[0])._default_manager.using(self.using)
        there = set(manager.filter(pk__in=[*keys, self.told.actor_id]).values_list("pk", flat=True))
        if self.told.actor_id not in there:
            self.told = replace(self.told, actor_id=None)
        return [user for user in users if user.pk in there]

    def _write(
        self, users: Sequence[Any], channels: dict[Any, Channels], own: OwnTransaction
    ) -> int:
        """Write and publish; how many e-mails are due."""
        now = timezone.now()
        grouped = self._count_to_open(users, now)
        known = {one.recipient_id for one in grouped}
        fresh = [
            self.told.notification(
                user,
                created=now,
                open_group=self.told.open_group,
                on_site=channels[user.pk].site,
                email_due=now if self._is_mailed(user, channels[user.pk]) else None,
            )
            for user in users
            if user.pk not in known
        ]
        fresh = Notification.objects.using(self.using).bulk_create(fresh)
        events = [self._event(one, is_new=False) for one in grouped if one.on_site]
        events += [self._event(one, is_new=True) for one in fresh if one.on_site]
        own.publish_many(events)
        return sum(one.email_due is not None for one in fresh)

    def _is_mailed(self, user: Any, channels: Channels) -> bool:
        return channels.email and not self.is_quiet and bool(mail.address_of(user))

    def _count_to_open(self, users: Sequence[Any], now: datetime) -> list[Notification]:
        """The unread ones of the same group, with this one counted to them."""
        if self.told.open_group is None:
            return []
        rows = Notification.objects.using(self.using).select_for_update()
        recipients = [user.pk for user in users]
        rows = rows.filter(recipient__in=recipients, open_group=self.told.open_group)
        found = list(rows)
        fields = {**self.told.fields(), "created": now}
        rows = Notification.objects.using(self.using).filter(pk__in=[one.pk for one in found])
        rows.update(**fields, count=F("count") + 1)
        for one in found:
            for name, value in fields.items():
                setattr(one, name, value)
            one.count += 1
        return found

    def _event(self, one: Notification, *, is_new: bool) -> Item:
        data = {
            "id": one.pk,
            "kind": one.kind,
            "title": one.headline,
            "body": one.body[:300],
            "url": one.url,
            "is_new": is_new,
            "is_quiet": self.is_quiet,
        }
        return inbox_of(one.recipient_id, self.told.namespace), "notified", data
