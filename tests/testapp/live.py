"""What is live in the test app."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError

from django_live import History, Message, Rejected, Topic, Viewer, apublish, publish
from django_live.features.changes import Changes
from django_live.features.presence import Presence
from tests.testapp.models import Document, Note, Order


class OrderTopic(Topic):
    """One order, for those who may see it."""

    pattern = "orders/<int:pk>"
    history = History(events=1000, age=timedelta(days=1))
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return Order.objects.visible_to(viewer.user).filter(pk=self.pk).exists()


class CustomerTopic(Topic):
    """All orders of one customer."""

    pattern = "customers/<int:pk>/orders"
    history = History(events=1000, age=timedelta(days=1))
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_staff or viewer.user.pk == self.pk)


class OrderChanges(Changes[Order]):
    model = Order
    fields = ["status", "total"]

    def topics(self, instance: Order) -> list[Topic]:
        return [OrderTopic(pk=instance.pk), CustomerTopic(pk=instance.customer_id)]


class DocumentTopic(Topic):
    """One document."""

    pattern = "documents/<slug:code>"
    history = History(events=1000, age=timedelta(days=1))


class TagTopic(Topic):
    """The documents that carry a tag."""

    pattern = "tags/<slug:tag>"
    history = History(events=1000, age=timedelta(days=1))


class DocumentChanges(Changes[Document]):
    model = Document
    fields = ["owner", "token", "day", "file", "extra", "size"]

    def topics(self, instance: Document) -> list[Topic]:
        tags = instance.extra.get("tags", [])
        return [DocumentTopic(code=instance.code), *(TagTopic(tag=tag) for tag in tags)]


class NoteTopic(Topic):
    """One note."""

    pattern = "notes/<uuid:pk>"
    history = History(events=1000, age=timedelta(days=1))


class NoteChanges(Changes[Note]):
    model = Note
    fields = ["text"]

    def topics(self, instance: Note) -> list[Topic]:
        return [NoteTopic(pk=instance.pk)]


class OpenTopic(Topic):
    """For the tests of delivery: anybody may read it, and it is written to by name."""

    pattern = "open/<slug:slug>"
    history = History(events=100_000, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class BoxedTopic(Topic):
    """Goes through the outbox whatever the store is."""

    pattern = "boxed/<slug:slug>"
    history = History(events=1000, age=timedelta(days=1))
    outbox = True

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class SmallTopic(Topic):
    """Keeps little, so that a reader who was away long is reset."""

    pattern = "small/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class EphemeralTopic(Topic):
    """Keeps nothing."""

    pattern = "ephemeral/<slug:slug>"

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class SnapshotTopic(Topic):
    """Newcomers start from a snapshot."""

    pattern = "snapshot/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True

    def snapshot(self) -> dict[str, int]:
        return {"orders": Order.objects.count()}


class ReadersTopic(Topic):
    """For those with a permission, their own or a group's."""

    pattern = "readers/<slug:slug>"
    history = History(events=1000, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.has_perm("testapp.view_order"))


class GuardedOrderTopic(Topic):
    """One order, for those who have a permission on this one."""

    pattern = "guarded-orders/<int:pk>"
    history = History(events=1000, age=timedelta(days=1))
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.has_perm("testapp.view_order", Order.objects.get(pk=self.pk)))


class RoomTopic(Topic):
    """Who may read it may write to it; what a message is called says what becomes of it."""

    pattern = "rooms/<slug:slug>"
    history = History(events=1000, age=timedelta(days=1))
    interactive = True

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True

    def can_send(self, viewer: Viewer) -> bool:
        return self.kwargs["slug"] != "closed" or bool(viewer.user.is_staff)

    def on_message(self, message: Message) -> Any:
        if message.type == "say":
            publish(self, "said", message.data, exclude=message.connection)
            return {"by": message.viewer.user.get_username()}
        if message.type == "describe":
            is_bytes = isinstance(message.data, bytes)
            data = len(message.data) if is_bytes else message.data
            return [is_bytes, data, message.sequence, message.sent, message.connection]
        if message.type == "reject":
            raise Rejected("Not today.", code="closed-today")
        if message.type == "invalidate":
            raise ValidationError(["Too short.", "Too dull."])
        if message.type == "break":
            raise KeyError("the site's own fault")
        if message.type == "hang":
            time.sleep(float(message.data))
        if message.type == "say-late":
            time.sleep(message.data["seconds"])
            publish(self, "said", message.data)
        return None


class AsyncRoomTopic(Topic):
    """The same with coroutines."""

    pattern = "async-rooms/<slug:slug>"

    async def can_subscribe(self, viewer: Viewer) -> bool:
        return True

    async def can_send(self, viewer: Viewer) -> bool:
        return not viewer.user.is_anonymous or self.kwargs["slug"] == "open"

    async def on_message(self, message: Message) -> Any:
        if message.type == "say":
            await apublish(self, "said", message.data)
        if message.type == "hang":
            await asyncio.sleep(float(message.data))
        return message.type


class HallTopic(Topic):
    """Who is signed in may come, and is seen by those who are there."""

    pattern = "halls/<slug:slug>"
    presence = Presence(grace=1.5)

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)
