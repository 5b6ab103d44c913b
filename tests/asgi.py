"""The ASGI application of the tests' own site, for the servers that tests start."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django_live.asgi import get_live_application

application = get_live_application()
