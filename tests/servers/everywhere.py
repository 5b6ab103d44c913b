"""Where projects publish from: what ``test_everywhere.py`` starts in processes of their own.

``application`` is for WSGI servers. EVERYWHERE_WARM names a topic that is published to while the module
is imported: so the background loop runs already when a server forks its workers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from django.core.wsgi import get_wsgi_application
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

application = get_wsgi_application()

# Only now: Django has been set up.
from django_live import apublish, publish  # noqa: E402
from tests.testapp.models import Order  # noqa: E402

celery_app = Celery("everywhere", broker=os.environ.get("EVERYWHERE_BROKER", "memory://"))
celery_app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_default_queue="everywhere",
)

TOLD = ["outside", "inside"]
"""What arrives of ``tell()``, in this order."""


class Undone(Exception):
    """Rolls a transaction back."""


def tell(topic: str) -> None:
    """Publish outside a transaction, in one that is rolled back, and in one that commits."""
    publish(topic, "counted", {"n": "outside"})
    try:
        with transaction.atomic():
            publish(topic, "counted", {"n": "rolled back"})
            raise Undone
    except Undone:
        pass
    with transaction.atomic():
        publish(topic, "counted", {"n": "inside"})


async def atell(topic: str) -> None:
    """The same with ``apublish()``. Django's transactions are of a thread; async code enters one there."""
    await apublish(topic, "counted", {"n": "outside"})
    for name, error in (("rolled back", Undone), ("inside", None)):
        atomic = transaction.atomic()
        await sync_to_async(atomic.__enter__)()
        await apublish(topic, "counted", {"n": name})
        await sync_to_async(atomic.__exit__)(error, None, None)


def sync_view(_request: HttpRequest, topic: str) -> HttpResponse:
    """Also asks the database afterwards: Django refuses that in a thread that runs an event loop."""
    tell(topic)
    return HttpResponse(f"{Order.objects.count()} orders")


async def async_view(_request: HttpRequest, topic: str) -> HttpResponse:
    await atell(topic)
    return HttpResponse(f"{await Order.objects.acount()} orders")


def process_view(_request: HttpRequest) -> HttpResponse:
    """Which process answers."""
    return HttpResponse(str(os.getpid()))


@celery_app.task(name="tell")  # type: ignore[untyped-decorator]
def tell_in_task(topic: str) -> Any:
    tell(topic)


@celery_app.task(name="publish_for_ever", soft_time_limit=1)  # type: ignore[untyped-decorator]
def publish_for_ever(topic: str, report: str) -> None:
    """Until its time is over; then it says so in a file, and after how long."""
    began = time.monotonic()
    try:
        while True:
            with transaction.atomic():
                publish(topic, "counted", {"n": "again"})
    except SoftTimeLimitExceeded:
        Path(report).write_text(str(time.monotonic() - began))


if warm := os.environ.get("EVERYWHERE_WARM"):
    publish(warm, "counted", {"n": "before the fork"})
    connections.close_all()  # a database connection must not be shared with a child
