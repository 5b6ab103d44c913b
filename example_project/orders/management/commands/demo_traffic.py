"""``manage.py demo_traffic``: for a while, orders come in and move on, so that an open page has something to show."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from example_project.orders.demo import ANNA, BERT, place_new_order
from example_project.orders.models import Order

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

FEWEST_OPEN_ORDERS = 8
LONGEST_RUN = 3600.0
HIGHEST_RATE = 50.0


class Command(BaseCommand):
    help = "Moves the demo orders through their statuses, and places new ones as others finish."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--seconds", type=float, default=60.0, help="how long (default: 60, at most 3600)"
        )
        parser.add_argument(
            "--rate", type=float, default=0.5, help="changes per second (default: 0.5, at most 50)"
        )

    def handle(self, *args: Any, seconds: float, rate: float, **options: Any) -> None:
        if not (0 < seconds <= LONGEST_RUN and 0 < rate <= HIGHEST_RATE):
            raise CommandError(
                f"--seconds goes up to {LONGEST_RUN:g}, --rate up to {HIGHEST_RATE:g}."
            )
        dice = random.Random()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.stdout.write(make_something_happen(dice))
            except User.DoesNotExist as error:
                raise CommandError("Run demo_data first.") from error
            time.sleep(1 / rate)


def make_something_happen(dice: random.Random) -> str:
    """One change, and a line that tells of it."""
    orders = list(
        Order.objects.open().filter(customer__username__in=[ANNA.username, BERT.username])
    )
    if len(orders) < FEWEST_OPEN_ORDERS:
        return f"{place_new_order(dice)}: placed"
    order = dice.choice(orders)
    is_cancelled = order.status == Order.Status.NEW and dice.random() < 0.1
    order.status = (not is_cancelled and order.next_status) or Order.Status.CANCELLED
    order.save()
    return f"{order}: {order.status}"
