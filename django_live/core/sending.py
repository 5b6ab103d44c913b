"""Between numbering and the bus: events that have their numbers are sent to every process.

Must keep true: a layer that fails or does not answer costs no event that a log keeps, and makes a
caller wait for a bounded time, whatever it sends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from . import bus, headway, tracing
from .allowance import Allowance, allowance
from .counting import tally
from .events import Draft, Event
from .interruptions import raise_interruption
from .log import Appended, get_log
from .outbox import Entry, Numbered
from .spare_loop import spare_loop
from .topics import Topic

logger = logging.getLogger("django_live.publishing")

MESSAGES_AT_ONCE = 200
BYTES_AT_ONCE = 1024 * 1024
"""Messages, and data in them, that are handed on together."""

Observer = Callable[[Topic, Sequence[Event]], None]
Forwarder = Callable[[Topic, Appended], None]


def append_direct(entries: Sequence[Entry]) -> Iterator[Numbered]:
    """Number events without the outbox; without a log they keep the offset 0."""
    by_topic: dict[str, list[Entry]] = {}
    for entry in entries:
        by_topic.setdefault(entry.topic.key, []).append(entry)
    kept: list[tuple[Topic, list[Draft]]] = []
    for of_topic in by_topic.values():
        topic, drafts = of_topic[0].topic, [entry.draft for entry in of_topic]
        if topic.history is not None:
            kept.append((topic, drafts))
            continue
        now = time.time()
        events = [
            Event(
                type=draft.type,
                data=draft.data,
                exclude=draft.exclude,
                created=now,
                conflate=draft.conflate,
            )
            for draft in drafts
        ]
        yield Numbered(topic, Appended("", events))
    for start in range(0, len(kept), MESSAGES_AT_ONCE):
        some = kept[start : start + MESSAGES_AT_ONCE]
        with tally.asking_store("append"):
            all_appended = get_log().append_many(some)
        for (topic, _), appended in zip(some, all_appended, strict=True):
            yield Numbered(topic, appended)


_observers: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Also tell ``observer`` what this process sends, for tests."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


_forwarders: list[Forwarder] = []


def forward_to(forwarder: Forwarder) -> None:
    """Also tell ``forwarder`` what is numbered, from now on: by the process that has numbered it, once,
    internal topics included. It must not wait; one that fails is logged, and costs the others nothing."""
    if forwarder not in _forwarders:
        _forwarders.append(forwarder)


def send_numbered(batches: Iterable[Numbered]) -> int:
    """Send numbered events to every process; how many. A layer that fails is logged and costs no
    event: topics with history are read from the log."""
    count = 0
    sending = _Sending()
    try:
        for topic, appended in batches:
            count += len(appended.events)
            headway.made(len(appended.events))
            if not topic.is_internal:
                tally.count("published", amount=len(appended.events))
            _show_observers(topic, appended)
            with tracing.publishing(topic.name, len(appended.events)) as trace:
                sending.add(topic, appended, trace)
    finally:
        # What is numbered is sent, also where the numbering of the next has failed.
        sending.finish()
    return count


class _Sending:
    """Hands messages on, several at a time, and stops waiting for a layer that does not answer."""

    def __init__(self) -> None:
        self._allowance: Allowance = allowance()
        self._names: dict[str, str] = {}
        self._messages: list[bus.Envelope] = []
        self._size = 0

    def add(self, topic: Topic, appended: Appended, trace: tracing.Carrier) -> None:
        self._names[topic.key] = topic.name
        for message in bus.envelopes(topic.key, appended.epoch, appended.events, trace):
            self._messages.append(message)
            self._size += bus.size_of(message)
            if len(self._messages) >= MESSAGES_AT_ONCE or self._size >= BYTES_AT_ONCE:
                self._hand_on()

    def finish(self) -> None:
        if self._messages:
            self._hand_on()

    def _hand_on(self) -> None:
        messages, self._messages, self._size = self._messages, [], 0
        try:
            if not bus.reaches_other_processes():
                bus.send_local(messages)
            else:
                self._send_and_wait(messages)
        except Exception as error:
            raise_interruption(error)
            names = {self._names[message["key"]] for message in messages}
            logger.warning(
                "%d events of %s were not sent over the channel layer (%s: %s). Those of topics with "
                "history arrive from the log.",
                sum(len(message["events"]) for message in messages),
                ", ".join(names) if len(names) == 1 else f"{len(names)} topics",
                error.__class__.__name__,
                error,
            )

    def _send_and_wait(self, messages: Sequence[bus.Envelope]) -> None:
        seconds = self._allowance.of_layer
        if not seconds:
            raise TimeoutError("it has not answered before")
        began = time.monotonic()
        try:
            spare_loop.run(
                lambda: bus.send(messages), seconds, needs_thread=bus.needs_running_loop()
            )
        except Exception:
            self._allowance.layer_failed(time.monotonic() - began)
            raise


def _show_observers(topic: Topic, appended: Appended) -> None:
    for observer in _observers:
        _call(observer, topic, appended.events)
    for forwarder in _forwarders:
        _call(forwarder, topic, appended)


def _call(told: Callable[..., None], *facts: object) -> None:
    try:
        told(*facts)
    except Exception as error:
        raise_interruption(error)
        logger.exception("%r failed.", told)
