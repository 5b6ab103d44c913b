"""``manage.py live_broadcast``: one event to a topic, a user, a group, a permission's holders, everyone."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core.records import record
from ...exceptions import InvalidEvent, InvalidTopic, StoreError, UnknownTopic
from ...features.broadcasts import Audience, NobodyFound, broadcast, reach
from ...features.messages import LEVELS, MESSAGE, message
from ..console import WRONG, Console, add_format


class Command(BaseCommand):
    help = (
        "Publishes one event to a topic, to a user, to the members of a group, to whoever has a "
        "permission, or to everyone. The exit code is 0 when it was published, 1 when the store did "
        "not let it, and 2 for wrong arguments or somebody who does not exist."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("topic", nargs="?", help="the name of a topic")
        whom.add_argument("--user", metavar="ID/NAME")
        whom.add_argument("--group", metavar="NAME")
        whom.add_argument("--permission", metavar="APP.CODENAME")
        whom.add_argument("--all", action="store_true", help="everyone")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--message", metavar="TEXT", help="a plain message, which pages show")
        what.add_argument(
            "--data", metavar="JSON", help="what the event carries; - reads it from stdin"
        )
        parser.add_argument("--type", help="the event's type, with --data")
        parser.add_argument("--level", choices=LEVELS, default="info", help="of a message")
        parser.add_argument("--url", default="", help="where a message leads to: /orders/42/")
        parser.add_argument("--namespace", default="", help="the tenant")
        parser.add_argument(
            "--dry-run", action="store_true", help="publish nothing; say how many would hear it"
        )
        add_format(parser)

    def handle(self, *, namespace: str, dry_run: bool, **options: Any) -> None:
        kind, value = next(
            (kind, options[kind])
            for kind in ("topic", "user", "group", "permission", "all")
            if options[kind] not in (None, False)
        )
        audience = (
            Audience("everyone", "", namespace)
            if kind == "all"
            else Audience(kind, value, namespace)
        )
        console = Console(self, options["format"])
        try:
            type, data = self._event(options)
            if dry_run:
                self._preview(console, audience, options["format"])
                return
            with console.progress("Publishing") as tell:
                sent = broadcast(audience, type, data, progress=tell)
        except (NobodyFound, InvalidEvent, InvalidTopic, UnknownTopic) as error:
            raise CommandError(str(error), returncode=WRONG) from error
        except (DatabaseError, StoreError, ImproperlyConfigured) as error:
            raise CommandError(f"Not published: {error}") from error
        record("broadcast", audience=str(audience), type=type, topics=sent, by="live_broadcast")
        if options["format"] == "json":
            console.json({"topics": sent})
        else:
            console.say(f"Published to {sent} topics" if sent != 1 else "Published to 1 topic")

    def _event(self, options: dict[str, Any]) -> tuple[str, Any]:
        if options["message"] is not None:
            if options["type"]:
                raise CommandError("A --message has no --type.", returncode=WRONG)
            return MESSAGE, message(options["message"], options["level"], options["url"])
        if not options["type"]:
            raise CommandError("--data needs the event's --type.", returncode=WRONG)
        try:
            text = sys.stdin.read() if options["data"] == "-" else options["data"]
            return options["type"], json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"--data is no JSON: {error}.", returncode=WRONG) from error

    def _preview(self, console: Console, audience: Audience, format: str) -> None:  # noqa: A002
        found = reach(audience)
        if format == "json":
            console.json(vars(found))
            return
        missing = f"; {found.missing} processes did not answer" if found.missing else ""
        console.say(
            f"{audience}: {found.topics} topics, heard by {found.connections} connections of "
            f"{found.users} users just now{missing}"
        )
