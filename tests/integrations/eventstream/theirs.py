"""A site on django-eventstream as it is: what conformance is measured by, and what fails under load."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTS_APPS
from tests.settings import MIDDLEWARE as TESTS_MIDDLEWARE

SECRET_KEY = "not a secret, and long enough to sign with: these settings serve the tests"
INSTALLED_APPS = [
    *(app for app in TESTS_APPS if not app.startswith(("django_live", "tests."))),
    "rest_framework",
    "django_eventstream",
]
MIDDLEWARE = ["django_grip.GripMiddleware", *TESTS_MIDDLEWARE]
ROOT_URLCONF = "tests.integrations.eventstream.site"
EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = os.environ.get(
    "TEST_CHANNELMANAGER", "tests.integrations.eventstream.channels.ChannelManager"
)
EVENTSTREAM_ALLOW_ORIGINS = ["https://friend.example"]
EVENTSTREAM_ALLOW_CREDENTIALS = True
EVENTSTREAM_ALLOW_HEADERS = "Authorization"
if redis := os.environ.get("TEST_EVENTSTREAM_REDIS"):
    EVENTSTREAM_REDIS = json.loads(redis)
if proxies := os.environ.get("TEST_GRIP_PROXIES"):
    GRIP_PROXIES = json.loads(proxies)
