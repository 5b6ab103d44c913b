"""Notifications in the admin: to look for them, and to see what somebody was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from .models import Notification, NotificationPreference

if TYPE_CHECKING:
    NotificationModelAdmin = admin.ModelAdmin[Notification]
    PreferenceModelAdmin = admin.ModelAdmin[NotificationPreference]
else:
    NotificationModelAdmin = PreferenceModelAdmin = admin.ModelAdmin


@admin.register(Notification)
class NotificationAdmin(NotificationModelAdmin):
    list_display = ("headline", "recipient", "kind", "created", "read_at")
    list_filter = ("kind", "created")
    list_select_related = ("recipient",)
    search_fields = ("title", "body")
    raw_id_fields = ("recipient", "actor")
    show_full_result_count = False  # there may be millions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # notify() tells everybody's pages, too

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(NotificationPreference)
class NotificationPreferenceAdmin(PreferenceModelAdmin):
    list_display = ("user", "kind", "site", "email")
    list_filter = ("kind",)
    list_select_related = ("user",)
    raw_id_fields = ("user",)
