"""``manage.py live_connections``: who is connected, in every process; and end some of it."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core import control, survey
from ...core.facts import Row
from ...exceptions import StoreError
from ...features.broadcasts import NobodyFound, user_named
from ..console import (
    MISSING,
    WRONG,
    Console,
    add_format,
    ago,
    in_bytes,
    missing_as_json,
    name_missing,
)

PAGE = 2000
"""Connections that are asked for at once."""
LONGEST_WATCH = 86_400.0
COLUMNS = ["user", "transport", "topics", "since", "address", "unsent", "lag", "process", "id"]


class Command(BaseCommand):
    help = (
        "Lists the open connections of every process, the newest first, and ends them with "
        "--disconnect. The exit code is 0 when every process answered, 1 when the store could not be "
        "asked, 2 for wrong arguments, and 3 when a process did not answer in time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="ID/NAME", help="only this user's")
        parser.add_argument("--topic", metavar="NAME", help="only those that hear this topic")
        parser.add_argument("--transport", choices=["sse", "websocket", "polling"])
        parser.add_argument("--address", help="only those from this address")
        parser.add_argument("--search", metavar="TEXT", default="", help="in any of it")
        parser.add_argument(
            "--order", choices=["since", "active", "unsent", "lag"], default="since"
        )
        parser.add_argument(
            "--limit", type=int, default=100, help="how many (default 100; 0: all of them)"
        )
        parser.add_argument(
            "--disconnect",
            action="store_true",
            help="end those that match; say which, or --all. Their pages do not come back by themselves",
        )
        parser.add_argument("--all", action="store_true", help="with --disconnect: everybody")
        parser.add_argument(
            "--watch",
            nargs="?",
            type=float,
            const=2.0,
            metavar="SECONDS",
            help="again every so many seconds (2), until Ctrl-C",
        )
        add_format(parser)

    def handle(self, *, watch: float | None, disconnect: bool, **options: Any) -> None:
        filters = self._filters(options)
        if options["limit"] < 0:
            raise CommandError("--limit takes a number, 0 for all of them.", returncode=WRONG)
        if watch is not None and not 0 < watch <= LONGEST_WATCH:
            raise CommandError("--watch takes seconds above 0, a day at most.", returncode=WRONG)
        if disconnect and not filters and not options["all"]:
            raise CommandError("Say whose connections are to be ended, or --all.", returncode=WRONG)
        console = Console(self, options["format"])
        try:
            if disconnect:
                self._disconnect(console, filters, options)
                return
            while True:
                self._list(console, filters, options, is_watching=watch is not None)
                if watch is None:
                    return
                time.sleep(watch)
                console.clear()
        except KeyboardInterrupt:
            return
        except (DatabaseError, StoreError, ImproperlyConfigured) as error:
            raise CommandError(f"The processes could not be asked: {error}") from error

    def _filters(self, options: dict[str, Any]) -> dict[str, Any]:
        filters = {name: options[name] for name in ("topic", "transport", "address")}
        if options["user"]:
            try:
                filters["user"] = str(user_named(options["user"]).pk)
            except NobodyFound as error:
                raise CommandError(str(error), returncode=WRONG) from error
        filters["text"] = options["search"]
        return {name: value for name, value in filters.items() if value}

    def _list(
        self, console: Console, filters: dict[str, Any], options: dict[str, Any], is_watching: bool
    ) -> None:
        rows, page = self._rows(console, filters, options, options["limit"])
        if options["format"] == "json":
            console.json(
                {
                    "total": page.total,
                    "matching": page.matching,
                    "missing": missing_as_json(page.survey),
                    "connections": [
                        {name: value for name, value in row.items() if name != "key"}
                        for row in rows
                    ],
                }
            )
        else:
            names = _names_of(rows)
            now = time.time()
            console.table(COLUMNS, [_cells(row, names, page.survey, now) for row in rows])
            shown = f", {len(rows)} shown" if len(rows) < page.matching else ""
            console.say(f"{page.total} connections, {page.matching} match{shown}")
        if not is_watching:
            name_missing(page.survey)

    def _rows(
        self, console: Console, filters: dict[str, Any], options: dict[str, Any], limit: int
    ) -> tuple[list[Row], survey.Page]:
        rows: list[Row] = []
        after: tuple[float, str] | None = None
        with console.progress("Asking the processes", limit or None) as tell:
            while True:
                size = min(PAGE, limit - len(rows)) if limit else PAGE
                page = survey.connections(
                    limit=size, after=after, order=options["order"], **filters
                )
                rows += page.rows
                tell(len(rows))
                after = page.next
                if after is None or (limit and len(rows) >= limit):
                    return rows, page

    def _disconnect(
        self, console: Console, filters: dict[str, Any], options: dict[str, Any]
    ) -> None:
        rows, page = self._rows(console, filters, options, 0)
        with console.progress("Disconnecting", len(rows)) as tell:
            for done, row in enumerate(rows, 1):
                control.disconnect(connection=row["id"])
                tell(done)
        if options["format"] == "json":
            missing = missing_as_json(page.survey)
            console.json({"disconnected": [row["id"] for row in rows], "missing": missing})
        else:
            console.say(f"{len(rows)} connections are being ended")
        if page.survey.missing:
            # The command reaches those that live, but their connections were not found.
            raise CommandError("Not every process answered; run it again.", returncode=MISSING)


def _names_of(rows: Sequence[Row]) -> dict[str, str]:
    model = get_user_model()
    keys = {row["user"] for row in rows if row["user"] is not None}
    found = model._default_manager.filter(pk__in=keys)
    return {str(pk): str(name) for pk, name in found.values_list("pk", model.USERNAME_FIELD)}


def _cells(row: Row, names: dict[str, str], found: survey.Survey, now: float) -> list[Any]:
    process = found.processes.get(row["process"])
    more = row["topic_count"] - len(row["topics"])
    return [
        names.get(row["user"], row["user"]),
        row["transport"],
        " ".join(row["topics"]) + (f" and {more} more" if more else ""),
        ago(row["since"], now),
        row["address"],
        in_bytes(row["unsent"]),
        row["lag"],
        f"{process.host}:{process.pid}" if process else row["process"],
        row["id"],
    ]
