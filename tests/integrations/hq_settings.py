"""The tests' site with django-notifications-hq. Its newest release has an ``index_together``, which
Django 5.1 has removed; sites that go on using it have to take that out, as is done here."""

from django.db.models import options

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTS_APPS

if "index_together" not in options.DEFAULT_NAMES:
    options.DEFAULT_NAMES = (*options.DEFAULT_NAMES, "index_together")

INSTALLED_APPS = [*TESTS_APPS, "notifications"]
DJANGO_LIVE = {"NOTIFICATIONS_HQ": True}
SILENCED_SYSTEM_CHECKS = ["models.W042"]
