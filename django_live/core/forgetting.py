"""The way back: what events and state tell of a person is taken out of them.

Must keep true: readers notice nothing. Events keep their offsets, types and times, so no range gets a
hole and nobody is reset; only their data becomes what the topic's ``forget()`` leaves of it. What was
delivered before is on other people's screens, and stays there.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import InvalidTopic, StoreError
from . import headway, hooks
from .control import erased
from .events import Event, encode_data
from .log import EventLog, get_log
from .outbox import get_outbox
from .sweeping import sweep
from .topics import Topic, registry

logger = logging.getLogger("django_live.forgetting")

EVENTS_AT_ONCE = 500
BYTES_AT_ONCE = 1024 * 1024
PATIENCE = 10.0
"""Seconds that others get to number what they are numbering."""
PAUSE = 0.05

Forgetter = Callable[[Any, bool], int]


@dataclass
class Forgotten:
    """What one ``forget()`` did, or would do."""

    events: Counter[str] = field(default_factory=Counter)
    """By the pattern of the topics, how many events were changed."""
    others: Counter[str] = field(default_factory=Counter)
    """By the name of the function that ``forgets()`` registered, how much it removed."""
    not_asked: set[str] = field(default_factory=set)
    """Patterns of topics that have a history and no ``forget()``: their events stay as they are."""
    undeclared: int = 0
    """Topics that hold events and that nothing here declares: their events stay as they are."""
    failed: list[str] = field(default_factory=list)
    """What could not be looked at or changed, as sentences. Then it has to be done again."""


_forgetters: dict[str, Forgetter] = {}
_emptiers: list[Callable[[str], int]] = []


def forgets(forgetter: Forgetter) -> Forgetter:
    """Register ``forgetter(user, dry_run) -> int``, which takes out of tables, files or the shared
    state what they hold of a user, and tells how much it was. A decorator."""
    _forgetters[f"{forgetter.__module__}.{forgetter.__qualname__}"] = forgetter
    return forgetter


def empties(work: Callable[[str], int]) -> Callable[[str], int]:
    """Register ``work(alias)``, which publishes what waits in a table of its own, and tells how many
    rows are left there. A decorator."""
    if work not in _emptiers:
        _emptiers.append(work)
    return work


def forget(user: Any, *, dry_run: bool = False) -> Forgotten:
    """Take out of the log what it tells of this user, as each topic's ``forget()`` says, and call what
    ``forgets()`` registered. ``dry_run`` changes nothing and counts what would be.

    Call it outside of transactions, and while the user's rows are still there for your hooks to look
    at. Events that are published while it runs are seen if they are committed before their topic's
    turn. Raises ``StoreError`` where the store does not let it.
    """
    done = Forgotten()
    if not dry_run:
        _empty_the_outbox(done)
    log = get_log()
    for topic in _topics(log, done):
        try:
            _forget_in(topic, log, user, dry_run, done)
        except StoreError as error:
            done.failed.append(f"{topic.name}: {error}")
        headway.made(1)
    for name, forgetter in _forgetters.items():
        try:
            done.others[name] += forgetter(user, dry_run)
        except Exception as error:
            logger.exception("%s failed.", name)
            done.failed.append(f"{name}: {error.__class__.__name__}")
    return done


def _empty_the_outbox(done: Forgotten) -> None:
    """What is committed and waits to be numbered is told anyway; in the log it can be changed."""
    deadline = time.monotonic() + PATIENCE
    for alias in get_outbox().aliases():
        try:
            while _something_waits(alias):
                if time.monotonic() > deadline:
                    done.failed.append(
                        f"the outbox of {alias!r} still holds rows: others have them locked, or "
                        "nothing here declares what they are about"
                    )
                    break
                time.sleep(PAUSE)
        except Exception as error:
            done.failed.append(f"the outbox of {alias!r} could not be emptied: {error}")


def _something_waits(alias: str) -> bool:
    """Whether there is something left after everything here was told."""
    left = sum(work(alias) for work in _emptiers)
    sweep(alias)
    return bool(left) or get_outbox().waits(alias)


def _topics(log: EventLog, done: Forgotten) -> Iterator[Topic]:
    """Those that hold events and say what to do with them."""
    for namespace, name in log.names():
        try:
            topic = registry.resolve(name, namespace)
        except InvalidTopic:
            done.undeclared += 1
            continue
        if topic.is_asked_to_forget():
            yield topic
        else:
            done.not_asked.add(topic.pattern)


def _forget_in(topic: Topic, log: EventLog, user: Any, dry_run: bool, done: Forgotten) -> None:
    after, changed = 0, 0
    while True:
        page = log.read(topic, after, EVENTS_AT_ONCE, BYTES_AT_ONCE)
        if not page.events:
            break
        after = page.events[-1].offset
        left = {
            event.offset: data
            for event in page.events
            if (data := _left_of(event, topic, user, done)) is not None
        }
        if left and not dry_run:
            log.replace(topic, left)
        changed += len(left)
    if changed:
        done.events[topic.pattern] += changed
        if not dry_run:
            erased(topic)


def _left_of(event: Event, topic: Topic, user: Any, done: Forgotten) -> str | None:
    """The data that takes the place of an event's; None where it stays."""
    try:
        data = json.loads(event.data)
        left = encode_data(hooks.call_sync(topic.forget, user, event.type, data))
    except Exception as error:
        logger.exception("%r.forget() failed for the event %d.", topic, event.offset)
        done.failed.append(f"{topic.name}, event {event.offset}: {error.__class__.__name__}")
        return None
    return None if json.loads(left) == json.loads(event.data) else left
