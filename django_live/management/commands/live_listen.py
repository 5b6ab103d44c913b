"""``manage.py live_listen``: tell at once what PostgreSQL's triggers have noted."""

from __future__ import annotations

import logging
import signal
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from ...core.sweeping import sweep
from ...exceptions import StoreError
from ...features.triggers import Ear

logger = logging.getLogger("django_live.changes")

AGAIN = 1.0
"""Seconds after which a database that is away is tried again."""


class Command(BaseCommand):
    help = (
        "Listens to PostgreSQL and tells at once what writes have passed Django by, on tables with "
        "LiveTriggers. Without it a server's sweep tells them within half a second, and live_sweep "
        "when it is run. Several may run. Ends with SIGTERM."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", metavar="ALIAS", default=DEFAULT_DB_ALIAS)
        parser.add_argument(
            "--every",
            type=float,
            default=5.0,
            metavar="SECONDS",
            help="Also look without being woken, this often (default 5).",
        )

    def handle(self, *, database: str, every: float, **options: Any) -> None:
        if database not in connections:
            raise CommandError(f"There is no database {database!r} in DATABASES.", returncode=2)
        if connections[database].vendor != "postgresql":
            raise CommandError(f"The database {database!r} is not PostgreSQL.", returncode=2)
        self._ended = False
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        while not self._ended:
            try:
                self._listen(database, every)
            except (DatabaseError, StoreError, OSError) as error:
                logger.warning("live_listen cannot reach %s (%s); it tries again.", database, error)
                connections[database].close()
                time.sleep(AGAIN)

    def _end(self, *args: Any) -> None:
        self._ended = True

    def _listen(self, database: str, every: float) -> None:
        ear = Ear(database)
        try:
            self.stdout.write(f"Listening to {database}.")
            self.stdout.flush()
            while not self._ended:
                # Listen first, look second: what commits in between is not missed.
                sweep(database)
                deadline = time.monotonic() + every
                while not self._ended and (left := deadline - time.monotonic()) > 0:
                    # A short wait, because Python goes on waiting after a signal.
                    if ear.wait(min(left, 0.5)):
                        break
        finally:
            ear.close()
