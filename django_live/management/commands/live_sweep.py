"""``manage.py live_sweep``: send what processes left behind that are gone."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from ...core import headway
from ...core.outbox import get_outbox
from ...core.store_threads import own_transactions
from ...core.sweeping import sweep
from ...exceptions import StoreError
from ..console import WRONG, Console, add_format


class Command(BaseCommand):
    help = (
        "Numbers and sends the events that were committed and not sent, because their process is "
        "gone. Servers do it by themselves, twice a second; run this from cron where no process "
        "serves streams. The exit code is 1 when a database could not be swept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Sweep this database only. By default, each one that has the outbox's table.",
        )
        add_format(parser)

    def handle(self, *, database: str | None, format: str, **options: Any) -> None:  # noqa: A002
        if database is not None and database not in connections:
            raise CommandError(f"There is no database {database!r} in DATABASES.", returncode=WRONG)
        console = Console(self, format)
        counts: dict[str, int] = {}
        faults: dict[str, str] = {}
        for alias in [database] if database else get_outbox().aliases():
            try:
                with own_transactions():
                    counts[alias] = self._sweep(console, alias)
            except (DatabaseError, StoreError) as error:
                faults[alias] = str(error)
        if format == "json":
            console.json({"sent": counts, "failed": faults})
        else:
            for alias, count in counts.items():
                console.say(f"{alias}: {count} events sent")
        if faults:
            names = ", ".join(f"{alias} ({error})" for alias, error in faults.items())
            raise CommandError(f"Not swept: {names}")

    def _sweep(self, console: Console, alias: str) -> int:
        total = get_outbox().waiting(alias) if console.is_rich else None
        with console.progress(f"Sending from {alias}", total) as tell, headway.followed_by(tell):
            return sweep(alias)
