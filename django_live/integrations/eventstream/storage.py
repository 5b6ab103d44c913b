"""The storage class: django-eventstream's ids and events, from our log."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django_eventstream.event import Event
from django_eventstream.storage import EventDoesNotExist, StorageBase

from ...core.events import Position
from ...core.log import get_log
from .ids import number_of, position_of
from .payload import Said, said_of
from .sending import send
from .topics import topic_of_channel

SETTING = "EVENTSTREAM_STORAGE_CLASS"
PAGE_BYTES = 16 * 1024 * 1024


class LogStorage(StorageBase):  # type: ignore[misc]  # untyped
    """``EVENTSTREAM_STORAGE_CLASS = "django_live.integrations.eventstream.LogStorage"``. A project that
    names one of django-eventstream's own gets this one, too."""

    def append_event(self, channel: str, event_type: str, data: str) -> Event:
        """Send an event, and tell its id. Inside a transaction it has none before the commit: 0."""
        position = send(channel, Said(event_type, data), kept=True)
        return Event(channel, event_type, data, id=number_of(position) if position else 0)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """The first events after an id. Raises ``EventDoesNotExist`` where the log does not have what
        came after it, or never gave it out."""
        topic, log = topic_of_channel(channel, kept=True), get_log()
        head = log.heads([topic])[topic.key]
        position = position_of(last_id, head)
        page = None
        if position is not None:
            page = log.read(topic, position.offset, limit, PAGE_BYTES)
            first = page.events[0].offset if page.events else page.head.floor + 1
            if page.head.epoch != position.epoch or first > position.offset + 1:
                page = None
        if page is None:
            raise EventDoesNotExist(f"No such event {last_id}", number_of(head.position))
        events = []
        for event in page.events:
            said = said_of(event)
            number = number_of(Position(page.head.epoch, event.offset))
            events.append(Event(channel, said.type, said.text, id=number))
        return events

    def get_current_id(self, channel: str) -> int:
        """The id of the newest event; of an empty channel one from which its first is read."""
        topic = topic_of_channel(channel, kept=True)
        return number_of(get_log().heads([topic])[topic.key].position)


class SendingStorage(LogStorage):
    """What ``send_event()`` appends to: nothing yet. What it calls last, ``publish_event()``, knows
    everything and sends it."""

    def append_event(self, channel: str, event_type: str, data: str) -> Event:
        return Event(channel, event_type, data, id=0)


_storage = SendingStorage()


def get_storage() -> Any:
    """The storage that django-eventstream's own functions get; None where the project has none."""
    return None if not getattr(settings, SETTING, None) else _storage
