"""The topic that ``live_doctor`` sends itself events by, through whatever stands before the site.

Must keep true: it is heard with a ticket of this site's ``SECRET_KEY`` only, which is good for a minute,
and it carries nothing.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.core import signing

from ..core.topics import History, Topic, Viewer, registry

SALT = "django_live.doctor"
GOOD_FOR = 60
"""Seconds."""

with registry.isolated():  # declare() registers it

    class DoctorTopic(Topic):
        """Of one examination."""

        pattern = "django_live/doctor/<str:ticket>"
        # Without a channel layer other processes hear of nothing that is not kept.
        history = History(events=10, age=timedelta(minutes=5))
        ticket: str

        def can_subscribe(self, viewer: Viewer) -> bool:
            try:
                signing.TimestampSigner(salt=SALT).unsign(self.ticket, max_age=GOOD_FOR)
            except signing.BadSignature:
                return False
            return True


def declare() -> None:
    """Called when the apps are ready."""
    registry.register(DoctorTopic)


def new_topic() -> DoctorTopic:
    return DoctorTopic(ticket=signing.TimestampSigner(salt=SALT).sign(secrets.token_urlsafe(8)))
