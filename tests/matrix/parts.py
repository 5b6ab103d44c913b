"""The parts of the suite that a run of the matrix is made of."""

from __future__ import annotations

from dataclasses import dataclass

ON_DATABASES = ("-m", "not any_database")


@dataclass(frozen=True)
class Part:
    """Some tests, and what it says of a site when they pass."""

    name: str
    title: str
    tests: tuple[str, ...]
    on_each_database: bool = False


PARTS = {
    part.name: part
    for part in (
        Part("contracts", "stores and outbox, by contract", ("tests/contracts",), True),
        Part("stores", "each store", ("tests/stores",), True),
        Part("features", "changes and features", ("tests/features",), True),
        Part("core", "an event's journey", ("tests/core", "tests/test_publishing.py")),
        Part("transports", "streams, polls, WebSockets", ("tests/transports",)),
        Part(
            "templates",
            "template tags and static files",
            ("tests/test_template_tags.py", "tests/test_assets.py"),
        ),
        Part("notifications", "notifications", ("tests/notifications",)),
        Part("daphne", "Daphne", ("tests/transport_contract/test_daphne.py",)),
        Part("uvicorn", "uvicorn", ("tests/transport_contract/test_uvicorn.py",)),
        Part("hypercorn", "Hypercorn", ("tests/transport_contract/test_hypercorn.py",)),
        Part("granian", "granian", ("tests/transport_contract/test_granian.py",)),
        Part(
            "site",
            "a user model of its own, django-allauth, WhiteNoise with hashed files, a strict "
            "Content-Security-Policy, a path below the root",
            ("tests/compatibility",),
        ),
        Part("drf", "Django REST framework", ("tests/transports/test_authentication.py",)),
        Part("guardian", "django-guardian", ("tests/servers/test_permissions.py",)),
        Part("unfold", "Django's admin, and django-unfold", ("tests/admin",)),
        Part("eventstream", "django-eventstream", ("tests/integrations/eventstream",)),
        Part("pushpin", "Pushpin", ("tests/edge",)),
    )
}
