"""What people were told, and what they want to be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class NotificationQuerySet(models.QuerySet["Notification"]):
    def of(self, user: Any) -> NotificationQuerySet:
        """What is in this user's inbox, the newest first."""
        return self.filter(recipient_id=user.pk, on_site=True).order_by("-created", "-id")

    def unread(self) -> NotificationQuerySet:
        return self.filter(read_at=None)


class Notification(models.Model):
    """Something that one person was told."""

    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        related_name="+",
        db_index=False,
        verbose_name=_("recipient"),
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        null=True,
        blank=True,
        verbose_name=_("actor"),
    )
    kind = models.CharField(_("kind"), max_length=100)
    title = models.CharField(_("title"), max_length=200)
    summary = models.CharField(_("summary"), max_length=200, blank=True)
    """The title of several in one; ``{count}`` in it is how many."""
    body = models.TextField(_("body"), blank=True)
    url = models.CharField(_("address"), max_length=2000, blank=True)
    target_type = models.ForeignKey(
        ContentType, models.SET_NULL, related_name="+", null=True, blank=True
    )
    target_id = models.CharField(max_length=255, blank=True)
    target = GenericForeignKey("target_type", "target_id")
    data = models.JSONField(_("data"), default=dict, blank=True)
    created = models.DateTimeField(_("created"), default=timezone.now)
    read_at = models.DateTimeField(_("read at"), null=True, blank=True)
    count = models.PositiveIntegerField(_("count"), default=1)
    """How many it stands for."""
    group = models.CharField(_("group"), max_length=200, blank=True)
    open_group = models.CharField(max_length=32, null=True, editable=False)  # noqa: DJ001
    """Stands for kind and group as long as it is unread: the next of the group is counted to it. None
    is unique beside None in every database, an empty text is not."""
    on_site = models.BooleanField(default=True, editable=False)
    """False: its recipient wants it by e-mail only."""
    email_due = models.DateTimeField(null=True, editable=False, db_index=True)
    """When it is to be sent by e-mail; None: it was, or need not be."""
    email_tries = models.PositiveSmallIntegerField(default=0, editable=False)

    objects: ClassVar[Any] = NotificationQuerySet.as_manager()

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        indexes = [
            # on_site last: SQLite takes a condition on it for no equation, and would sort all rows.
            models.Index(
                fields=["recipient", "-created", "-id", "on_site"], name="live_notif_newest"
            ),
            models.Index(
                fields=["recipient", "read_at", "on_site", "-id"], name="live_notif_unread_newest"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["recipient", "open_group"], name="live_notif_one_open_group"
            )
        ]

    def __str__(self) -> str:
        return self.headline

    @property
    def headline(self) -> str:
        """The title, or that of several in one."""
        if self.count == 1:
            return self.title
        summary = self.summary or "{count} × " + self.title
        return summary.replace("{count}", str(self.count))

    @property
    def is_just_now(self) -> bool:
        """Whether it is less than a minute old."""
        return timezone.now() - self.created < timedelta(minutes=1)

    @property
    def is_unread(self) -> bool:
        return self.read_at is None


class NotificationPreference(models.Model):
    """How one person wants to hear of one kind. Without a row the kind's own defaults hold."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    kind = models.CharField(_("kind"), max_length=100)
    site = models.BooleanField(_("on the site"))
    email = models.BooleanField(_("by e-mail"))

    class Meta:
        verbose_name = _("notification preference")
        verbose_name_plural = _("notification preferences")
        constraints = [
            models.UniqueConstraint(fields=["user", "kind"], name="live_notif_one_preference")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.kind}"
