"""The dedicated live service of the tests' site, as docs/howto/live-service.md has it."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django_live.asgi import get_live_application

application = get_live_application(only_live=True)
