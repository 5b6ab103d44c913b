"""``manage.py demo_data``: users and orders to look at. Running it again adds only what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from example_project.orders.demo import (
    DEMO_LOGINS,
    DEMO_ORDERS,
    FIRST_NUMBER,
    ensure_demo_order,
    ensure_login,
)
from example_project.talk.demo import ensure_rooms

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Creates the demo users and orders, and prints the log-ins."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="also when DEBUG is off")

    def handle(self, *args: Any, force: bool = False, **options: Any) -> None:
        if not (settings.DEBUG or force):
            raise CommandError(
                "The demo log-ins are public knowledge, and DEBUG is off. Use --force if you mean it."
            )
        for login in DEMO_LOGINS:
            ensure_login(login)
        placed = [
            ensure_demo_order(f"M-{FIRST_NUMBER + place}", demo)
            for place, demo in enumerate(DEMO_ORDERS)
        ]
        self.stdout.write(f"{sum(placed)} orders placed, {placed.count(False)} were there already.")
        self.stdout.write(f"{ensure_rooms()} rooms to talk in made.")
        self.stdout.write("Log in as:")
        for login in DEMO_LOGINS:
            role = "sees and changes all orders" if login.is_staff else "sees their own orders"
            self.stdout.write(
                f"  {login.username:<6} {login.password:<11} {login.full_name}, {role}"
            )
