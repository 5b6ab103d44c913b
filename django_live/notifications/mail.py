"""Notifications by e-mail, through Django's mail. A row says that its mail is due; a thread sends it.

Must keep true: nobody's request waits for a mail server; one that is down costs the notification
nothing but its mail, which is tried again a few times; of many processes one sends each mail.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connections, router, transaction
from django.template.loader import render_to_string
from django.utils import timezone

from ..core.errands import Errands
from ..core.sweeping import sweep_also
from .kinds import kind_named
from .models import Notification

logger = logging.getLogger("django_live.notifications")

AT_ONCE = 50
"""Mails that are sent over one connection."""
CLAIM = timedelta(minutes=10)
"""How long whoever sends a mail has for it, before others try."""
PAUSES = [timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2)]
"""Between two tries; after the last one it is given up."""
LOOK = 10.0
"""Seconds between two looks for mails that were left."""


def address_of(user: Any) -> str:
    return str(getattr(user, user.get_email_field_name(), "") or "")


def send_soon(using: str) -> None:
    """Send what is due, where nobody waits for it; in a test's transaction, into which no other thread
    sees, now."""
    if transaction.get_connection(using).in_atomic_block:
        send_due(using)
    else:
        errands.ask(using)


def send_due(using: str) -> int:
    """Send the mails that are due; how many were."""
    sent = 0
    while True:
        rows = Notification.objects.using(using).filter(email_due__lte=timezone.now())
        claimed = [row for row in rows.order_by("email_due")[:AT_ONCE] if _claim(row, using)]
        if not claimed:
            return sent
        sent += _send(claimed, using)


def _claim(row: Notification, using: str) -> bool:
    """Whether this one is ours to send."""
    own = Notification.objects.using(using).filter(pk=row.pk, email_due=row.email_due)
    return bool(own.update(email_due=timezone.now() + CLAIM))


def _send(rows: list[Notification], using: str) -> int:
    manager = get_user_model()._default_manager.using(using)
    recipients = manager.in_bulk({row.recipient_id for row in rows})
    connection = _server()
    try:
        connection.open()
    except Exception:  # whatever the project's backend raises
        names = sorted({kind_named(row.kind).source for row in rows})
        logger.exception(
            "%d notifications of %s could not be sent by e-mail: there is no mail server.",
            len(rows),
            ", ".join(names),
        )
        for row in rows:
            _postpone(row, using)
        return 0
    try:
        return sum(
            _send_one(row, recipients.get(row.recipient_id), connection, using) for row in rows
        )
    finally:
        connection.close()


def _server() -> Any:
    """The project's: since Django 6.1 its default mailer, which is made of the older settings, too."""
    mailers = getattr(mail, "mailers", None)
    return mail.get_connection() if mailers is None else mailers.default


def _send_one(row: Notification, user: Any, connection: Any, using: str) -> bool:
    try:
        if user is not None and address_of(user):
            connection.send_messages([_mail(row, user)])
    except Exception:
        logger.exception(
            "%s: notification %s could not be sent by e-mail.", kind_named(row.kind).source, row.pk
        )
        _postpone(row, using)
        return False
    Notification.objects.using(using).filter(pk=row.pk).update(email_due=None)
    return True


def _postpone(row: Notification, using: str) -> None:
    """Try again later; a few times."""
    is_last = row.email_tries >= len(PAUSES)
    due = None if is_last else timezone.now() + PAUSES[row.email_tries]
    own = Notification.objects.using(using).filter(pk=row.pk)
    own.update(email_due=due, email_tries=row.email_tries + 1)


def _mail(row: Notification, user: Any) -> EmailMessage:
    shown = {"notification": row, "recipient": user, "kind": kind_named(row.kind)}
    subject = render_to_string("django_live/notifications/email_subject.txt", shown)
    body = render_to_string("django_live/notifications/email.txt", shown)
    return EmailMessage(" ".join(subject.split()), body.strip() + "\n", to=[address_of(user)])


def _send_and_close(using: str) -> None:
    try:
        send_due(using)
    finally:
        connections.close_all()


errands = Errands(_send_and_close)

_looked: dict[str, float] = {}


def _look(using: str) -> int:
    """At a sweep: have sent what another process left, or what is to be tried again."""
    if (
        using != router.db_for_write(Notification)
        or time.monotonic() - _looked.get(using, 0) < LOOK
    ):
        return 0
    _looked[using] = time.monotonic()
    if Notification.objects.using(using).filter(email_due__lte=timezone.now()).exists():
        send_soon(using)
    return 0


def listen_to_sweeps() -> None:
    sweep_also(_look)
