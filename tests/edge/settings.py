"""The tests' site, and its channels of django-eventstream, behind a proxy that holds its streams."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DJANGO_LIVE as TESTS_LIVE
from tests.settings import INSTALLED_APPS as TESTS_APPS
from tests.settings import MIDDLEWARE as TESTS_MIDDLEWARE

SECRET_KEY = "not a secret, and long enough to sign with: these settings serve the tests"
INSTALLED_APPS = [*TESTS_APPS, "django_eventstream", "django_live.integrations.eventstream"]
MIDDLEWARE = ["django_grip.GripMiddleware", *TESTS_MIDDLEWARE]
ROOT_URLCONF = "tests.edge.urls"
WSGI_APPLICATION = "tests.edge.wsgi.application"
GRIP_PROXIES = json.loads(os.environ.get("TEST_GRIP_PROXIES", "[]"))
EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "tests.integrations.eventstream.channels.ChannelManager"
RECHECK = 1.0
DJANGO_LIVE = {**TESTS_LIVE, "RECHECK": RECHECK, "HEARTBEAT": 5.0}
