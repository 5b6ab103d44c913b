"""The settings that mypy's Django plugin reads: the tests' site and the example project in one.

So one run knows the models of both. Their `live.py` modules are not discovered: both are small shops,
and declare the same topics.
"""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTS_APPS

INSTALLED_APPS = [
    "tests.quiet_app.WithoutDiscovery" if app == "django_live" else app
    for app in [*TESTS_APPS, "tests.triggerapp", "example_project.orders", "example_project.people"]
]
