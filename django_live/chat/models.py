"""Rooms, who is in them, and what was said."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Room(models.Model):
    """A place to talk. Its messages are numbered from 1, without holes."""

    class Kind(models.TextChoices):
        PUBLIC = "public", _("public")
        PRIVATE = "private", _("private")
        DIRECT = "direct", _("direct")

    name = models.CharField(_("name"), max_length=120, blank=True)
    """Empty for the conversation of two, which is called after the other one."""
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices, default=Kind.PRIVATE)
    namespace = models.CharField(_("tenant"), max_length=100, blank=True)
    pair = models.CharField(max_length=191, null=True, unique=True, editable=False)  # noqa: DJ001
    """Stands for the two of a direct room: there is one for each pair. None is unique beside None."""
    last_number = models.PositiveBigIntegerField(default=0, editable=False)
    """Of the newest message. Who raises it has the room's row until the commit: so numbers, commits and
    events have one order."""
    created = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        null=True,
        blank=True,
        verbose_name=_("created by"),
    )

    class Meta:
        verbose_name = _("room")
        verbose_name_plural = _("rooms")
        permissions = [("moderate_room", _("Can moderate every room that they may read"))]
        indexes = [models.Index(fields=["kind", "namespace"], name="live_chat_room_kind")]

    def __str__(self) -> str:
        return self.name or f"{self.get_kind_display()} {self.pk}"

    @property
    def is_direct(self) -> bool:
        return self.kind == self.Kind.DIRECT


class Membership(models.Model):
    """Somebody in a room. The row of who was banned stays, so that they stay out."""

    class Role(models.TextChoices):
        MEMBER = "member", _("member")
        MODERATOR = "moderator", _("moderator")
        OWNER = "owner", _("owner")

    room = models.ForeignKey(
        Room, models.CASCADE, related_name="memberships", db_index=False, verbose_name=_("room")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.MEMBER)
    muted = models.BooleanField(_("muted"), default=False)
    banned = models.BooleanField(_("banned"), default=False)
    read_number = models.PositiveBigIntegerField(_("read up to"), default=0)
    joined = models.DateTimeField(_("joined"), default=timezone.now)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [
            models.UniqueConstraint(fields=["room", "user"], name="live_chat_one_membership")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.room_id}"


class Message(models.Model):
    """Something that was said. What is deleted keeps its number and loses its text."""

    room = models.ForeignKey(
        Room, models.CASCADE, related_name="messages", db_index=False, verbose_name=_("room")
    )
    number = models.PositiveBigIntegerField(_("number"))
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        null=True,
        verbose_name=_("author"),
    )
    client_id = models.CharField(max_length=64)
    """The sender's own name for it: the same one again is the same message."""
    text = models.TextField(_("text"), blank=True)
    reply_to = models.ForeignKey(
        "self", models.SET_NULL, related_name="+", null=True, verbose_name=_("reply to")
    )
    created = models.DateTimeField(_("created"), default=timezone.now)
    edited_at = models.DateTimeField(_("edited"), null=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["room", "number"], name="live_chat_one_number"),
            models.UniqueConstraint(
                fields=["room", "author", "client_id"], name="live_chat_one_client_id"
            ),
        ]

    def __str__(self) -> str:
        return self.text[:60] or f"#{self.number}"


def place_of_file(attachment: Any, _filename: str) -> str:
    """Nothing of what its sender called it: the name is for people, not for a file system."""
    return f"live_chat/{attachment.room_id}/{attachment.pk}"


class Attachment(models.Model):
    """A file. It belongs to nobody's message until it is sent with one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    room = models.ForeignKey(Room, models.CASCADE, related_name="+", verbose_name=_("room"))
    uploader = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        null=True,
        verbose_name=_("uploaded by"),
    )
    message = models.ForeignKey(
        Message,
        models.CASCADE,
        related_name="attachments",
        null=True,
        verbose_name=_("message"),
    )
    file = models.FileField(_("file"), upload_to=place_of_file, max_length=191)
    name = models.CharField(_("name"), max_length=200)
    size = models.PositiveBigIntegerField(_("size"))
    content_type = models.CharField(_("type"), max_length=100)
    created = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        indexes = [models.Index(fields=["uploader", "message"], name="live_chat_unsent")]

    def __str__(self) -> str:
        return self.name


class Reaction(models.Model):
    """One sign of one person at one message."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="reactions", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    code = models.CharField(max_length=60)
    """The sign's code points, ``1f44d``: MariaDB takes all signs for equal."""

    class Meta:
        verbose_name = _("reaction")
        verbose_name_plural = _("reactions")
        constraints = [
            models.UniqueConstraint(
                fields=["message", "user", "code"], name="live_chat_one_reaction"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.code}"
