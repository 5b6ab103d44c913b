"""The tables of the database store and of the outbox. Their rules are in ``stores/``.

Nothing here is edited by hand: rows are inserted, numbered, trimmed. Times are seconds since 1970 in
a double, so that every store and every time zone setting gives back the same number.
"""

from __future__ import annotations

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.translation import gettext_lazy as _

if not apps.is_installed("django_live"):
    raise ImproperlyConfigured('Add "django_live" to INSTALLED_APPS.')


class Head(models.Model):
    """Where one topic's log stands. Numbering locks this row, and only it.

    The row whose key is "" is the generation: its epoch is the epoch of every topic without a row.
    """

    key = models.CharField(
        _("key"),
        max_length=32,
        unique=True,
        # The name itself cannot be unique: a collation may take "Room" and "Röom" for one.
        help_text=_("Digest of the namespace and the name."),
    )
    namespace = models.CharField(_("namespace"), max_length=200, blank=True, default="")
    name = models.CharField(_("topic"), max_length=200, blank=True, default="")
    epoch = models.CharField(_("epoch"), max_length=16)
    last = models.BigIntegerField(_("last offset"), default=0)
    floor = models.BigIntegerField(
        _("floor"), default=0, help_text=_("Events up to this offset were trimmed.")
    )
    updated = models.FloatField(
        _("updated"), default=0.0, help_text=_("When the last event was numbered.")
    )
    floor_created = models.FloatField(
        _("floor created"),
        default=0.0,
        help_text=_("When the newest of the trimmed events was numbered."),
    )

    class Meta:
        verbose_name = _("topic head")
        verbose_name_plural = _("topic heads")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name or self.key} {self.epoch}.{self.last}"


class StoredEvent(models.Model):
    """One event of a topic with history. Rows are inserted and deleted; only ``live_forget`` changes
    what is in them."""

    head = models.ForeignKey(
        Head,
        on_delete=models.CASCADE,
        related_name="events",
        verbose_name=_("topic head"),
        db_index=False,  # the constraint on (head, offset) has the index
    )
    offset = models.BigIntegerField(_("offset"))
    type = models.CharField(_("type"), max_length=64)
    # Text: jsonb refuses \u0000 and reorders keys.
    data = models.TextField(_("data"))
    exclude = models.CharField(_("excluded connection"), max_length=64, blank=True, default="")
    created = models.FloatField(_("created"))
    uid = models.CharField(  # noqa: DJ001 - unique: "" could stand only once
        _("idempotency digest"), max_length=32, null=True, blank=True, default=None
    )

    class Meta:
        verbose_name = _("stored event")
        verbose_name_plural = _("stored events")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(fields=["head", "offset"], name="django_live_event_place"),
            # Not unique=True on the field: PostgreSQL would get a second index for LIKE.
            models.UniqueConstraint(fields=["uid"], name="django_live_event_uid"),
        )

    def __str__(self) -> str:
        return f"{self.offset} {self.type}"


class PendingEvent(models.Model):
    """The outbox: an event in its caller's transaction, to be numbered after the commit.

    No foreign key to ``Head``: it would lock the topic until the caller commits.
    """

    id = models.BigAutoField(primary_key=True)
    topic_key = models.CharField(_("topic key"), max_length=32)
    namespace = models.CharField(_("namespace"), max_length=200, blank=True, default="")
    name = models.CharField(_("topic"), max_length=200)
    type = models.CharField(_("type"), max_length=64)
    data = models.TextField(_("data"))
    exclude = models.CharField(_("excluded connection"), max_length=64, blank=True, default="")
    conflate = models.TextField(_("conflation key"), blank=True, default="")
    idempotency_key = models.TextField(_("idempotency key"), blank=True, default="")
    created = models.FloatField(_("created"))

    class Meta:
        verbose_name = _("pending event")
        verbose_name_plural = _("pending events")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["topic_key", "id"], name="django_live_pending_topic"),)

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


class PendingChange(models.Model):
    """An object that changed, in the transaction that changed it, to be told of after the commit.

    Written by ``features/deferred.py``, and by the triggers of ``features/triggers.py``, which know
    the columns by name.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(
        _("source"), max_length=200, help_text=_("The Changes, or the table of a trigger.")
    )
    object_key = models.CharField(
        _("object key"), max_length=32, help_text=_("Digest of the source and the primary key.")
    )
    facts = models.TextField(_("facts"))
    due = models.FloatField(_("due"), default=0.0, db_index=True)
    created = models.FloatField(_("created"))

    class Meta:
        verbose_name = _("pending change")
        verbose_name_plural = _("pending changes")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["object_key", "id"], name="django_live_pending_object"),)

    def __str__(self) -> str:
        return f"{self.source} {self.object_key}"


class StateMap(models.Model):
    """One map of the shared state. Whoever changes the map locks this row."""

    key = models.CharField(_("key"), max_length=32, unique=True)
    name = models.TextField(_("name"))
    version = models.BigIntegerField(_("version"), default=0)
    fence = models.BigIntegerField(
        _("fence"), default=0, help_text=_("The greatest fencing token it was changed with.")
    )

    class Meta:
        verbose_name = _("state map")
        verbose_name_plural = _("state maps")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class StateEntry(models.Model):
    """One entry of a map."""

    map = models.ForeignKey(
        StateMap, on_delete=models.CASCADE, related_name="entries", verbose_name=_("state map")
    )
    uid = models.CharField(
        # Over both in one column: many entries of many maps are renewed in one statement.
        _("digest"),
        max_length=32,
        unique=True,
        help_text=_("Digest of the map's name and the key."),
    )
    key = models.TextField(_("key"))
    value = models.TextField(_("value"), blank=True)
    version = models.BigIntegerField(_("version"))
    expires = models.FloatField(_("expires"), null=True, blank=True, db_index=True)

    class Meta:
        verbose_name = _("state entry")
        verbose_name_plural = _("state entries")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.key} {self.version}"


class StateCounter(models.Model):
    """A counter of the shared state, until it begins again."""

    key = models.CharField(_("key"), max_length=32, unique=True)
    name = models.TextField(_("name"))
    value = models.BigIntegerField(_("value"), default=0)
    expires = models.FloatField(_("expires"), default=0.0, db_index=True)

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


class Lease(models.Model):
    """A claim that expires. Its row outlives it, so that the next token is greater."""

    key = models.CharField(_("key"), max_length=32, unique=True)
    name = models.TextField(_("name"))
    holder = models.TextField(_("holder"), blank=True)
    token = models.BigIntegerField(_("fencing token"), default=0)
    expires = models.FloatField(_("expires"), default=0.0, db_index=True)

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} {self.holder} {self.token}"


class Answer(models.Model):
    """What a token stream said, once it has ended; until then as much of it as was put by.

    Its rules are in ``features/token_streams/``; nothing but its writer changes it.
    """

    key = models.CharField(_("id"), max_length=64, unique=True)
    namespace = models.CharField(_("namespace"), max_length=200, blank=True, default="")
    owner = models.CharField(
        _("owner"),
        max_length=200,
        blank=True,
        default="",
        db_index=True,
        help_text=_("Primary key of the user."),
    )
    permission = models.CharField(_("permission"), max_length=200, blank=True, default="")
    title = models.CharField(_("title"), max_length=200, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, default="waiting")
    token = models.BigIntegerField(
        _("fencing token"), default=0, help_text=_("Of whoever may write it.")
    )
    attempt = models.IntegerField(_("attempt"), default=0)
    text = models.TextField(_("text"), blank=True, default="")
    reasoning = models.TextField(_("reasoning"), blank=True, default="")
    parts = models.TextField(_("parts"), blank=True, default="[]")
    error = models.CharField(_("error"), max_length=500, blank=True, default="")
    created = models.FloatField(_("created"))
    updated = models.FloatField(_("updated"))

    class Meta:
        verbose_name = _("answer")
        verbose_name_plural = _("answers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.title or self.key

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running")


# -- no tables: what the admin's pages hang on -------------------------------------------------------
# Proxies, so that they have permissions and places in the admin. What they show is asked of the
# processes; nobody writes or reads such rows. (An unmanaged model would break `dumpdata`.)


class Connection(StateEntry):
    """An open connection."""

    class Meta:
        proxy = True
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        default_permissions = ()
        permissions = (
            ("view_connection", "Can view open connections"),
            ("disconnect_connection", "Can end and re-check open connections"),
        )


class LiveTopic(StateEntry):
    """A topic that is declared, or that somebody listens to. Its events need ``view_storedevent``."""

    class Meta:
        proxy = True
        verbose_name = _("topic")
        verbose_name_plural = _("topics")
        default_permissions = ()
        permissions = (
            ("view_livetopic", "Can view topics"),
            ("trim_livetopic", "Can trim the log"),
            ("replay_livetopic", "Can publish a kept event again"),
        )


class Process(StateEntry):
    """A process that serves streams."""

    class Meta:
        proxy = True
        verbose_name = _("process")
        verbose_name_plural = _("processes")
        default_permissions = ()
        permissions = (("view_process", "Can view processes and metrics"),)


class Broadcast(StateEntry):
    """One event to many."""

    class Meta:
        proxy = True
        verbose_name = _("broadcast")
        verbose_name_plural = _("broadcasts")
        default_permissions = ()
        permissions = (("broadcast", "Can send broadcasts"),)
