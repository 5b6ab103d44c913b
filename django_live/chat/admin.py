"""The chat in the admin: to look into rooms and to moderate them. What is done here is told to open pages,
and stands in the admin's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .changing import delete_many
from .members import ban, mute, unban, unmute
from .models import Attachment, Membership, Message, Room

if TYPE_CHECKING:
    RoomModelAdmin = admin.ModelAdmin[Room]
    MessageModelAdmin = admin.ModelAdmin[Message]
    MembershipModelAdmin = admin.ModelAdmin[Membership]
    AttachmentModelAdmin = admin.ModelAdmin[Attachment]
else:
    RoomModelAdmin = MessageModelAdmin = MembershipModelAdmin = admin.ModelAdmin
    AttachmentModelAdmin = admin.ModelAdmin


@admin.register(Room)
class RoomAdmin(RoomModelAdmin):
    list_display = ("__str__", "kind", "namespace", "last_number", "created")
    list_filter = ("kind", "created")
    search_fields = ("name",)
    fields = ("name", "kind", "namespace", "created_by", "created", "last_number")
    readonly_fields = ("namespace", "created", "last_number")
    raw_id_fields = ("created_by",)


@admin.register(Membership)
class MembershipAdmin(MembershipModelAdmin):
    """Rows are changed by the actions, which cut open pages off; not by hand."""

    list_display = ("user", "room", "role", "muted", "banned", "joined")
    list_filter = ("role", "muted", "banned")
    list_select_related = ("user", "room")
    raw_id_fields = ("user", "room")
    actions = ("mute_them", "unmute_them", "ban_them", "unban_them")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [field.name for field in Membership._meta.fields]

    @admin.action(description=_("Mute"), permissions=["change"])
    def mute_them(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        self._each(request, queryset, mute)

    @admin.action(description=_("Unmute"), permissions=["change"])
    def unmute_them(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        self._each(request, queryset, unmute)

    @admin.action(description=_("Ban"), permissions=["change"])
    def ban_them(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        self._each(request, queryset, ban)

    @admin.action(description=_("Unban"), permissions=["change"])
    def unban_them(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        self._each(request, queryset, unban)

    def _each(self, request: HttpRequest, queryset: QuerySet[Membership], work: Any) -> None:
        found = list(queryset.select_related("room", "user"))
        for one in found:
            work(one.room, one.user, by=None)
            self.log_change(request, one, work.__name__)
        told = ngettext("%d membership was changed.", "%d memberships were changed.", len(found))
        self.message_user(request, told % len(found), messages.SUCCESS)


@admin.register(Message)
class MessageAdmin(MessageModelAdmin):
    """Nothing is written in somebody's name: messages are read here, and taken away."""

    list_display = ("__str__", "author", "room", "created", "edited_at", "deleted_at")
    list_filter = ("created", "deleted_at")
    list_select_related = ("author", "room")
    search_fields = ("text",)
    raw_id_fields = ("author", "room", "reply_to")
    actions = ("take_away",)
    show_full_result_count = False  # there may be millions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> Any:
        found = super().get_actions(request)
        found.pop("delete_selected", None)  # rows stay: their numbers have no holes
        return found

    def delete_model(self, request: HttpRequest, obj: Message) -> None:
        delete_many([obj], request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        delete_many(queryset.select_related("room"), request.user)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return []  # delete_many() has written it down

    @admin.action(description=_("Delete the text of the chosen messages"), permissions=["delete"])
    def take_away(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        count = delete_many(queryset.select_related("room"), request.user)
        told = ngettext("%d message was deleted.", "%d messages were deleted.", count)
        self.message_user(request, told % count, messages.SUCCESS)


@admin.register(Attachment)
class AttachmentAdmin(AttachmentModelAdmin):
    list_display = ("name", "uploader", "room", "size", "content_type", "created")
    list_select_related = ("uploader", "room")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # it goes with its message
