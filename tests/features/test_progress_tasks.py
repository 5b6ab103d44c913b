"""Jobs in Django's own tasks framework: that of Django 6.0, or its backport for 5.2."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_live.features.progress import Progress, find

pytestmark = pytest.mark.django_db(transaction=True)

tasks = import_module("django.tasks" if find_spec("django.tasks") else "django_tasks")


@tasks.task(takes_context=True)  # type: ignore[untyped-decorator]
def import_rows(context: Any, count: int, owner: int) -> str:
    with Progress("Import", id=context.task_result.id, owner=owner) as progress:
        for _ in progress.track(range(count)):
            pass
    return progress.id


@tasks.task  # type: ignore[untyped-decorator]
async def import_rows_asynchronously(count: int, owner: int) -> str:
    async with Progress("Import", owner=owner) as progress:
        async for _ in progress.track(range(count)):
            pass
    return progress.id


def test_a_task_goes_by_its_own_id(ann: User) -> None:
    result = import_rows.enqueue(7, ann.pk)
    assert result.return_value == result.id
    job = find(result.id)
    assert job is not None
    assert (job.view["state"], job.view["done"], job.access.owner) == ("done", 7, str(ann.pk))


def test_a_task_may_be_a_coroutine(ann: User) -> None:
    job = find(import_rows_asynchronously.enqueue(7, ann.pk).return_value)
    assert job is not None
    assert (job.view["state"], job.view["done"]) == ("done", 7)
