"""``manage.py live_topics``: what is declared, and what somebody listens to."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core import survey
from ...core.topics import declarations
from ...exceptions import StoreError
from ..console import WRONG, Console, add_format, in_bytes, missing_as_json, name_missing

ACTIVE = ["topic", "subscribers", "lagging", "head", "kept", "events/s", "per second", "namespace"]
DECLARED = ["pattern", "declared by", "history", "overflow", "transport"]


class Command(BaseCommand):
    help = (
        "Lists the topics that somebody listens to, in every process, or with --declared the patterns "
        "that the apps declare. The exit code is 0 when every process answered, 1 when the store could "
        "not be asked, 2 for wrong arguments, and 3 when a process did not answer in time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--search", metavar="TEXT", default="", help="only names with this text"
        )
        parser.add_argument("--limit", type=int, default=100, help="how many (default 100)")
        parser.add_argument("--declared", action="store_true", help="the patterns and their rules")
        add_format(parser)

    def handle(
        self,
        *,
        search: str,
        limit: int,
        declared: bool,
        format: str,  # noqa: A002
        **options: Any,
    ) -> None:
        if limit < 1:
            raise CommandError("--limit takes a number above 0.", returncode=WRONG)
        console = Console(self, format)
        if declared:
            rows = [row for row in declarations() if search in row["pattern"]]
            if format == "json":
                console.json({"declared": rows})
            else:
                console.table(DECLARED, [list(row.values())[: len(DECLARED)] for row in rows])
            return
        try:
            found, active = survey.topics(text=search, limit=limit)
        except (DatabaseError, StoreError, ImproperlyConfigured) as error:
            raise CommandError(f"The processes could not be asked: {error}") from error
        if format == "json":
            console.json({"missing": missing_as_json(found), "topics": active})
        else:
            console.table(
                ACTIVE,
                [
                    [
                        row["name"],
                        row["subscribers"],
                        row["lagging"],
                        row["last"],
                        row["kept"],
                        row["rate"],
                        in_bytes(row["byte_rate"]),
                        row["namespace"],
                    ]
                    for row in active
                ],
            )
            console.say(f"{len(active)} topics")
        name_missing(found)
