"""What ``send_event()`` sends, on its way through our log and bus.

Must keep true: nothing before the commit, nothing after a rollback; in an event loop, where
django-eventstream can send what it does not keep, that goes on working.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, transaction

from ...core.commits import commits_by_itself
from ...core.events import Position
from ...core.outbox import Entry, Numbered, get_outbox
from ...core.publishing import goes_through_outbox, publish_entries
from ...core.sending import append_direct, send_numbered
from ...core.sweeping import sweep_later
from .payload import Said, draft_of
from .topics import topic_of_channel


def send(channel: str, said: Said, *, kept: bool) -> Position | None:
    """Send an event to a channel, after the commit of the transaction that is open. Its position, if it
    has one already. Raises ``InvalidTopic``, ``StoreError``."""
    topic = topic_of_channel(channel, kept=kept)
    entry = Entry(topic, draft_of(said))
    if _in_event_loop():
        if topic.history is not None:
            raise SynchronousOnlyOperation(
                "send_event() to a reliable channel asks the store. Use "
                "`await sync_to_async(send_event)(…)`."
            )
        _own_thread().submit(publish_entries, [entry], on_commit=False)
        return None
    if not commits_by_itself(transaction.get_connection(DEFAULT_DB_ALIAS)):
        publish_entries([entry])
        return None
    if goes_through_outbox(topic, waits=True):
        batches = get_outbox().number([topic], DEFAULT_DB_ALIAS, [entry])
    else:
        batches = append_direct([entry])
    numbered = list(_sent(batches))
    if not numbered:  # somebody else numbers the topic just now
        sweep_later(DEFAULT_DB_ALIAS)
    return _position_of(entry, numbered)


def _sent(batches: Iterator[Numbered]) -> Iterator[Numbered]:
    """Send each batch as soon as it is numbered, and hand it on."""
    for batch in batches:
        send_numbered([batch])
        yield batch


def _position_of(entry: Entry, numbered: Sequence[Numbered]) -> Position | None:
    """Where an event stands that was the last one given. Others may have come behind it since."""
    if entry.topic.history is None:
        return None
    wanted = entry.draft.type, entry.draft.data
    for batch in reversed(numbered):
        for event in reversed(batch.appended.events):
            if (event.type, event.data) == wanted:
                return Position(batch.appended.epoch, event.offset)
    return None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@cache
def _own_thread() -> ThreadPoolExecutor:
    """One: what is sent in order arrives in order."""
    return ThreadPoolExecutor(1, thread_name_prefix="django_live-eventstream")
