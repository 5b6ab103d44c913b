"""``manage.py live_trim``: remove the events that topics need not keep any more."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core import headway
from ...core.log import get_log
from ...core.state import get_state
from ...core.store_threads import own_transactions
from ...exceptions import StoreError
from ..console import Console, add_format


class Command(BaseCommand):
    help = (
        "Removes the events that are older or more than their topics' History keeps, and what has "
        "expired in the shared state a day ago. Servers do it by themselves; run this from cron where "
        "no process serves streams. The exit code is 1 when the store did not let it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_format(parser)

    def handle(self, *, format: str, **options: Any) -> None:  # noqa: A002
        log = get_log()
        console = Console(self, format)
        removed = purged = 0
        try:
            with own_transactions(), console.progress("Removing events") as tell:
                with headway.followed_by(tell):
                    while count := log.trim():
                        removed += count
                while count := _purge():
                    purged += count
        except (DatabaseError, StoreError) as error:
            raise CommandError(f"After {removed} events: {error}") from error
        if format == "json":
            console.json({"removed": removed, "purged": purged})
        else:
            console.say(f"{removed} events removed, {purged} rows of the shared state purged")


def _purge() -> int:
    try:
        return get_state().purge()
    except ImproperlyConfigured:  # a store of the project's own, without a state
        return 0
