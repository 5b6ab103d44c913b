"""django-eventstream as its README sets it up, one process, no storage."""

import os

os.environ["BENCH_APP"] = "django_eventstream"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.fanout.apps.settings")

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application

inner = get_asgi_application()

from django_eventstream import send_event

from benchmarks.fanout.apps.publishing import with_publisher

application = with_publisher(
    inner,
    sync_to_async(lambda data, _number: send_event("ticks", "tick", data), thread_sensitive=False),
)
