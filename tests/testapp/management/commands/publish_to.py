"""``manage.py publish_to open/a``: a management command that publishes."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tests.servers.everywhere import tell


class Command(BaseCommand):
    """Publishes outside a transaction, in one, and in one that is rolled back."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topic")

    def handle(self, *args: Any, topic: str, **options: Any) -> None:
        tell(topic)
