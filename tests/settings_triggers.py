"""The tests' own site with an app whose table has triggers."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTS_APPS

INSTALLED_APPS = [*TESTS_APPS, "tests.triggerapp"]
