"""What the project declares: topics, changes, triggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from ..conf import SETTING, problems
from ..core.topics import WITH_HISTORY, WITHOUT_HISTORY, registry
from ..features.declared import DECLARED
from ..features.mistakes import mistakes
from ..features.triggers import are_missing


@register("django_live")
def check_topics(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E003: an overflow rule that does not go with the topic's history."""
    found: list[CheckMessage] = []
    for topic_class in registry.classes():
        rules = WITH_HISTORY if topic_class.history else WITHOUT_HISTORY
        if topic_class.overflow_rule() not in rules:
            kind = "with" if topic_class.history else "without"
            found.append(
                Error(
                    f"{topic_class.__qualname__}.overflow = {topic_class.overflow!r} is not a rule "
                    f"for a topic {kind} history.",
                    hint=f"Choose one of {', '.join(rules)}.",
                    obj=topic_class,
                    id="django_live.E003",
                )
            )
    return found


@register("django_live")
def check_changes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E005 to E010: what is wrong with declarations of ``Changes``."""
    if problems(getattr(settings, SETTING, {})):
        return []
    found = [one for changes in DECLARED.values() for one in mistakes(changes)]
    return [_CHANGES[one.kind](one.sentence, hint=one.hint or None) for one in found]


_CHANGES: dict[str, Callable[..., CheckMessage]] = {
    "model": partial(Error, id="django_live.E005"),
    "fields": partial(Error, id="django_live.E006"),
    "related": partial(Error, id="django_live.E007"),
    "audiences": partial(Error, id="django_live.E008"),
    "rules": partial(Error, id="django_live.E009"),
    "namespace": partial(Error, id="django_live.E010"),
}


@register("django_live", Tags.database)
def check_triggers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W003: ``Changes`` that rely on triggers, and a table without them."""
    models = {changes.model for changes in DECLARED.values() if changes.hears_triggers()}
    return [
        Warning(
            f"The table of {model._meta.label} in the database {alias!r} has no triggers: what is "
            "written there is not told.",
            hint=f'Add LiveTriggers("{model._meta.label}") to a migration.',
            id="django_live.W003",
        )
        for alias in databases or ()
        for model in models
        if are_missing(alias, model)
    ]
