"""Django's seat of the app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChatConfig(AppConfig):
    name = "django_live.chat"
    label = "live_chat"
    verbose_name = _("Chat")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import erasing, members, mentions, uploads

        erasing.listen()
        members.listen()
        uploads.listen()
        mentions.declare()
