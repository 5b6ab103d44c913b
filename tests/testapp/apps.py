"""The app's seat."""

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """Named in INSTALLED_APPS by its package."""

    name = "tests.testapp"
    label = "testapp"
