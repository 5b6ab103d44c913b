"""ASGI entry point: what daphne, uvicorn and the like serve."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

from django_live.asgi import get_live_application

application = get_live_application()
