"""Who moderated what: entries of the admin's log, where the site has one, and lines of Python's.

Must keep true: an entry is written in the transaction of what it tells of.
"""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

logger = logging.getLogger("django_live.chat")

CHANGED, DELETED = 2, 3
"""As ``LogEntry`` has them."""


def note(by: Any, about: Model, flag: int, sentence: str) -> None:
    """Write down what ``by`` (None: the site itself) did."""
    name = f"{about._meta.label} {about.pk}"
    logger.info("%s: %s (by %s)", name, sentence, getattr(by, "pk", None))
    if by is None or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import LogEntry

    LogEntry.objects.create(
        user_id=by.pk,
        content_type_id=ContentType.objects.get_for_model(about).pk,
        object_id=str(about.pk),
        object_repr=str(about)[:200],
        action_flag=flag,
        change_message=sentence,
    )
