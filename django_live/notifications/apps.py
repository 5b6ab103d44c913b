"""Django's seat of the app."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class NotificationsConfig(AppConfig):
    name = "django_live.notifications"
    label = "live_notifications"
    verbose_name = _("Notifications")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import mail

        mail.listen_to_sweeps()
        if apps.is_installed("notifications"):
            from ..integrations import notifications_hq

            notifications_hq.listen()
