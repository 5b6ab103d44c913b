"""The fixtures are there in any project: pytest finds them by the package's entry point."""

from __future__ import annotations

from importlib.metadata import entry_points

from django_live import pytest_plugin


def test_pytest_finds_it() -> None:
    """This suite names it instead (`addopts`), so no other test would notice."""
    (found,) = entry_points(group="pytest11", name="django_live")
    assert found.load() is pytest_plugin
