"""``manage.py import_orders orders.csv``: the same job from a terminal, which draws the same bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from django_live import Rejected
from django_live.features.progress import reserve
from example_project.imports.orders import decoded, import_orders

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Places the orders of a CSV file; its bar is on the page of --user, too."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", default="staff", help="whose job it is (default: staff)")

    def handle(self, *args: Any, file: Path, user: str, **options: Any) -> None:
        owner = User.objects.filter(username=user).first()
        if owner is None:
            raise CommandError(f"There is no user {user}.")
        job = reserve(f"Import of {file.name}", owner=owner, permission="orders.view_order")
        try:
            import_orders(decoded([file.read_bytes()]), job.id)
        except Rejected as rejected:
            raise CommandError(rejected.message) from rejected
