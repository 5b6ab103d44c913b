"""Fixtures for pytest, there without an import: pytest finds this module by its entry point.

Nothing of Django is imported before a fixture is asked for: the plugin is loaded before the settings are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest


@pytest.fixture
def live_events(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """What the test publishes: ``PublishedEvent``s, after the commit of their transaction. Where the test
    itself is one (``db``), use ``capture_events()`` around what publishes."""
    from .core.sending import observed_by
    from .testing.events import observer

    request.getfixturevalue("transactional_db")
    captured: list[Any] = []
    with observed_by(observer(captured)):
        yield captured


@pytest.fixture
def live_application() -> Any:
    """The application that ``ASGI_APPLICATION`` names, or one of Django's own with live streams."""
    from django.conf import settings
    from django.utils.module_loading import import_string

    path = getattr(settings, "ASGI_APPLICATION", None)
    if path:
        return import_string(path)
    return import_string("django_live.asgi.get_live_application")()


@pytest.fixture
def live_sse(live_application: Any, transactional_db: None) -> Callable[..., Any]:  # noqa: ARG001
    """``open_sse`` of the project's application: ``async with live_sse(topic, user=anna) as stream``."""
    from .testing.streams import open_sse

    return partial(open_sse, live_application)


@pytest.fixture
def live_websocket(live_application: Any, transactional_db: None) -> Callable[..., Any]:  # noqa: ARG001
    """``open_websocket`` of the project's application."""
    from .testing.websocket import open_websocket

    return partial(open_websocket, live_application)


@pytest.fixture
def live_poller(db: None) -> Callable[..., Any]:  # noqa: ARG001 - it asks the database
    """``Poller``: ``live_poller(topic, user=anna)``."""
    from .testing.polling import Poller

    return Poller


@pytest.fixture
def live_faulty_layer() -> Iterator[Any]:
    """A channel layer with faults, for the whole test: change what is wrong as you go."""
    from .testing.faults import faulty_layer

    with faulty_layer() as faults:
        yield faults


@pytest.fixture
def live_faulty_store() -> Iterator[Any]:
    """A store with faults, for the whole test."""
    from .testing.faults import faulty_store

    with faulty_store() as faults:
        yield faults
