"""``manage.py live_tail TOPIC``: a topic's last events, and those that come."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core import bus
from ...core.events import Event
from ...core.log import get_log
from ...core.tailing import Line, tail
from ...core.topics import Topic, as_topic
from ...exceptions import InvalidTopic, StoreError, UnknownTopic
from ..console import WRONG, Console, add_format, printable, when

MOST_BYTES = 64 * 1024 * 1024


class Command(BaseCommand):
    help = (
        "Shows the last events of a topic and then each one as it comes, without a gap, until Ctrl-C. "
        "The exit code is 0, 1 when the store or the channel layer could not be reached, and 2 for a "
        "topic that nothing declares, or that cannot be heard from here."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("topic", help="its name")
        parser.add_argument(
            "--last", type=int, default=10, metavar="N", help="begin so many back (10)"
        )
        parser.add_argument("--no-follow", action="store_true", help="end with the last one")
        parser.add_argument("--namespace", default="", help="the tenant")
        add_format(parser)

    def handle(
        self,
        *,
        topic: str,
        last: int,
        no_follow: bool,
        namespace: str,
        format: str,  # noqa: A002
        **options: Any,
    ) -> None:
        self._console = Console(self, format)
        self._format = format
        try:
            found = as_topic(topic, namespace)
        except (InvalidTopic, UnknownTopic) as error:
            raise CommandError(str(error), returncode=WRONG) from error
        if last < 0:
            raise CommandError("--last takes a number, 0 or more.", returncode=WRONG)
        if found.history is None and (no_follow or not bus.reaches_other_processes()):
            raise CommandError(
                f"{found.name} keeps no history"
                + (
                    ": there is nothing to show."
                    if no_follow
                    else ", and without a channel layer other processes are not heard here."
                ),
                returncode=WRONG,
            )
        try:
            self._show(found, last, follow=not no_follow)
        except KeyboardInterrupt:
            return
        except (DatabaseError, StoreError, ImproperlyConfigured) as error:
            raise CommandError(f"{found.name} cannot be read: {error}") from error

    def _show(self, topic: Topic, last: int, *, follow: bool) -> None:
        after, epoch = 0, ""
        if topic.history is not None:
            log = get_log()
            head = log.heads([topic])[topic.key]
            after, epoch = max(head.floor, head.last - last), head.epoch
            while after < head.last:
                page = log.read(topic, after, 500, MOST_BYTES)
                for event in page.events:
                    self._write(topic, event)
                if not page.events or page.head.epoch != epoch:
                    break
                after = page.events[-1].offset
        if follow:
            asyncio.run(tail(topic, epoch, after, lambda line: self._tell(topic, line)))

    def _tell(self, topic: Topic, line: Line) -> None:
        if isinstance(line, Event):
            self._write(topic, line)
        elif self._format == "json":
            self._console.json({"reset": line})
        else:
            self._console.say(f"-- reset: {line} --")
        self.stdout.flush()

    def _write(self, topic: Topic, event: Event) -> None:
        if self._format == "json":
            self._console.json(
                {
                    "topic": topic.name,
                    "offset": event.offset,
                    "type": event.type,
                    "created": event.created,
                    "data": json.loads(event.data),
                }
            )
            return
        offset = str(event.offset) if event.offset else "–"
        self._console.say(f"{when(event.created)}  {offset}  {event.type}  {printable(event.data)}")
