"""What the documentation's API is read with: every part of the package that is an app."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTS_APPS

INSTALLED_APPS = [*TESTS_APPS, "django_eventstream", "django_live.integrations.eventstream"]
