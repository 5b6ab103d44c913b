"""``manage.py live_forget``: take out of the log and the state what they tell of a person."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...core import headway
from ...core.forgetting import Forgotten, forget
from ...core.store_threads import own_transactions
from ...exceptions import StoreError
from ...features import deferred  # noqa: F401 - empties its notes, also where nothing is declared
from ..console import Console, add_format


class Command(BaseCommand):
    help = (
        "Takes out of the kept events what they tell of a user, as the topics' forget() methods say, "
        "and calls what forgets() registered. Run it before you delete the user's rows. The exit "
        "code is 1 when something could not be done, 2 when there is no such user."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--user",
            required=True,
            metavar="ID|NAME",
            help="Primary key or login name. Where it could be both: id:42 or name:42.",
        )
        parser.add_argument(
            "--deleted",
            action="store_true",
            help="The account is deleted already. Then your methods know its primary key only.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Change nothing, and count.")
        add_format(parser)

    def handle(
        self,
        *,
        user: str,
        deleted: bool,
        dry_run: bool,
        format: str,  # noqa: A002
        **options: Any,
    ) -> None:
        console = Console(self, format)
        person = _gone(user) if deleted else _find(user)
        try:
            with (
                own_transactions(),
                console.progress("Looking through topics") as tell,
                headway.followed_by(tell),
            ):
                done = forget(person, dry_run=dry_run)
        except (DatabaseError, StoreError) as error:
            raise CommandError(str(error)) from error
        console.say(_as_json(done) if format == "json" else _as_text(done, dry_run))
        if done.failed:
            raise CommandError("Not all could be done; run it again:\n" + "\n".join(done.failed))


def _find(words: str) -> Any:
    kind, _, rest = words.partition(":")
    found = []
    if kind != "name":
        found += _by_key(rest if kind == "id" and rest else words)
    if kind != "id":
        found += _by_name(rest if kind == "name" and rest else words)
    different = {person.pk: person for person in found}
    if not different:
        raise CommandError(
            f"There is no user {words!r}. If the account was deleted already, give its primary key "
            "and --deleted.",
            returncode=2,
        )
    if len(different) > 1:
        raise CommandError(
            f"{words!r} is one user's primary key and another one's name. Say id:{words} or "
            f"name:{words}.",
            returncode=2,
        )
    return next(iter(different.values()))


def _by_key(key: str) -> list[Any]:
    users = get_user_model()._default_manager
    try:
        return list(users.filter(pk=key))
    except (ValueError, ValidationError):  # it cannot be a key
        return []


def _by_name(name: str) -> list[Any]:
    model = get_user_model()
    return list(model._default_manager.filter(**{model.USERNAME_FIELD: name}))


def _gone(words: str) -> Any:
    """A user of whom only the primary key is known."""
    model = get_user_model()
    key = words.removeprefix("id:")
    try:
        return model(pk=model._meta.pk.to_python(key))
    except ValidationError as error:
        raise CommandError(
            f"{key!r} is no primary key of a user; a name is not enough with --deleted.",
            returncode=2,
        ) from error


def _as_json(done: Forgotten) -> str:
    return json.dumps(
        {
            "events": dict(done.events),
            "others": dict(done.others),
            "not_asked": sorted(done.not_asked),
            "undeclared": done.undeclared,
            "failed": done.failed,
        }
    )


def _as_text(done: Forgotten, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    lines = [f"{done.events.total()} events {would}changed"]
    lines += [f"  {pattern}: {count}" for pattern, count in sorted(done.events.items())]
    lines += [f"{name}: {count} {would}removed" for name, count in sorted(done.others.items())]
    if done.not_asked:
        patterns = ", ".join(sorted(done.not_asked))
        lines.append(f"Left as they are, for they have no forget(): {patterns}")
    if done.undeclared:
        lines.append(f"Left as they are, for no Topic declares them: {done.undeclared} topics")
    return "\n".join(lines)
