"""What `test_progress.py` and `test_token_streams.py` run in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from celery import Celery
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

# Only now: Django has been set up.
from django_live.features.progress import Progress  # noqa: E402

celery_app = Celery("reporting", broker=os.environ.get("EVERYWHERE_BROKER", "memory://"))
celery_app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_default_queue="reporting",
)


def slowly(count: int) -> Iterator[int]:
    for n in range(count):
        yield n
        time.sleep(0.01)


@celery_app.task(name="import")  # type: ignore[untyped-decorator]
def import_in_task(job: str, count: int) -> None:
    """What somebody's task would be."""
    with Progress(id=job, unit="rows") as progress:
        for n in progress.track(slowly(count), total=count):
            if n == 0:
                progress.log(f"process {os.getpid()}")
        progress.finish(result={"rows": count}, link="/")
