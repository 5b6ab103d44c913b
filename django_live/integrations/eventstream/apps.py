"""The one app line of a project that comes from django-eventstream."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EventstreamConfig(AppConfig):
    name = "django_live.integrations.eventstream"
    label = "django_live_eventstream"
    verbose_name = _("Live: django-eventstream")

    def ready(self) -> None:
        from . import bridge, checks, edge, seam, topics  # noqa: F401  topics and checks register theirs

        seam.install()
        edge.install()
        bridge.install()
