"""A site's own base template in place of an app's, as the documentation of each app tells to write it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.test import override_settings

BASE = "<title>{% block title %}{% endblock %}</title>{% block content %}{% endblock %}"


@contextmanager
def own_base(app: str, folder: Path) -> Iterator[None]:
    """`own_base("chat", tmp_path)`: pages of `django_live.chat` extend the site's base."""
    path = folder / "django_live" / app / "base.html"
    path.parent.mkdir(parents=True)
    path.write_text(BASE)
    with override_settings(TEMPLATES=[{**settings.TEMPLATES[0], "DIRS": [str(folder)]}]):
        yield
