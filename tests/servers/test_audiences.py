"""What one audience may see never reaches the socket of another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.test_streams import USERS, open_stream
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader
from tests.support.wire import Frame

StartServer = Callable[..., Server]

SECRET = "7777.77"
# With `leaks` the customers' audience is given the field: the control.
SAVES = """
from django.db import transaction
from django_live import publish
from django_live.features.bulk import LiveQuerySet
from django_live.features.changes import Audience, Changes
from tests.testapp.models import Order

class ForAll(Changes):
    model = Order
    audiences = [
        Audience("staff", topics=lambda order: ["readers/all"], fields=["status", "total"]),
        Audience("customers", topics=lambda order: ["open/orders"], fields=["status"] + {leaks!r}),
    ]

order = Order.objects.get()
order.total = "{secret}"
order.save()
with transaction.atomic():
    order.status = "paid"
    order.save()
LiveQuerySet(Order).update(status="sent")
LiveQuerySet(Order).bulk_create([Order(customer=order.customer, total="{secret}")])
order.delete()
publish("open/orders", "end")
publish("readers/all", "end")
"""


def all_of(reader: SSEReader) -> list[str]:
    """Every frame until the last one, whole."""
    frames: list[str] = []

    def is_last(frame: Frame) -> bool:
        frames.append(repr(frame))
        return frame.event == "end"

    reader.wait_for(is_last, timeout=30)
    return frames


@pytest.mark.parametrize("leaks", [[], ["total"]], ids=["apart", "control"])
def test_a_field_of_the_staff_does_not_come_to_the_customers(
    leaks: list[str],
    new_server_database: Callable[..., ServerDatabase],
    start_server: StartServer,
) -> None:
    database = new_server_database("sqlite")
    database.python(USERS)
    server = start_server("uvicorn", env=database.env)
    staff, bert = Visitor(server.url), Visitor(server.url)
    staff.log_in("staff", "staff")
    bert.log_in("bert", "bert")
    with (
        open_stream(server, "readers/all", visitor=staff) as theirs,
        open_stream(server, "open/orders", visitor=bert) as his,
    ):
        for reader in (theirs, his):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        database.python(SAVES.format(secret=SECRET, leaks=leaks))
        seen, heard = all_of(theirs), all_of(his)
    assert sum(SECRET in frame for frame in seen) >= 3
    assert len(heard) == len(seen)
    assert any(SECRET in frame for frame in heard) is bool(leaks)
