"""The kinds of notifications that there are, and how a person wants to hear of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from .models import NotificationPreference


class Channels(NamedTuple):
    site: bool
    email: bool


@dataclass(frozen=True)
class Kind:
    """What is told of, as those who are told may choose it."""

    name: str
    label: Any = ""
    """For people; may be lazy. Without one the kind is not among the choices."""
    site: bool = True
    """Whether it is told on the site where the person has not said otherwise."""
    email: bool = False
    source: str = ""
    """Who tells it: a name for the log."""


_kinds: dict[str, Kind] = {}


def declare_kind(
    name: str, label: Any = "", *, site: bool = True, email: bool = False, source: str = ""
) -> Kind:
    """Make a kind known, with its defaults. Rules do it by themselves; call it in an app's
    ``live.py`` for kinds that only ``notify()`` names."""
    kind = _kinds[name] = Kind(name, label, site, email, source or name)
    return kind


def kind_named(name: str) -> Kind:
    """The declared kind, or one with the defaults."""
    return _kinds.get(name) or Kind(name, source=name)


def choices() -> list[Kind]:
    """The kinds that people choose among, in the order of their labels."""
    return sorted((k for k in _kinds.values() if k.label), key=lambda kind: str(kind.label))


def channels_of(user_ids: Collection[Any], kind: str, using: str) -> dict[Any, Channels]:
    """How each of these users wants to hear of a kind: one query."""
    default = kind_named(kind)
    channels = dict.fromkeys(user_ids, Channels(default.site, default.email))
    chosen = NotificationPreference.objects.using(using).filter(user__in=user_ids, kind=kind)
    for user_id, site, email in chosen.values_list("user_id", "site", "email"):
        channels[user_id] = Channels(site, email)
    return channels


def preferences_of(user: Any) -> list[tuple[Kind, Channels]]:
    """What a person has chosen of each kind, or its defaults."""
    rows = NotificationPreference.objects.filter(user=user)
    chosen = {row.kind: Channels(row.site, row.email) for row in rows}
    return [(kind, chosen.get(kind.name, Channels(kind.site, kind.email))) for kind in choices()]


def prefer(user: Any, kind: str, *, site: bool, email: bool) -> None:
    """Remember what a person chooses for a kind."""
    NotificationPreference.objects.update_or_create(
        user=user, kind=kind, defaults={"site": site, "email": email}
    )
