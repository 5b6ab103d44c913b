"""Reads orders from a CSV file and places them. Two steps of one job: the first is quick, the second not."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable
from threading import Thread

from django.contrib.auth.models import User
from django.db import connections, transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from django_live import Rejected
from django_live.features.progress import Progress
from example_project.orders.demo import ANNA, BERT, PRODUCTS, add_lines
from example_project.orders.models import Order

COLUMNS = ["number", "customer", "product", "quantity"]
MOST_BYTES = 2_000_000


def sample(rows: int, seed: int) -> str:
    """A file with so many orders, for those who have none at hand. Every thirtieth has something wrong."""
    dice = random.Random(seed)
    file = io.StringIO()
    lines = csv.writer(file)
    lines.writerow(COLUMNS)
    for n in range(1, rows + 1):
        customer = dice.choice([ANNA, BERT]).username if n % 30 else "nobody"
        lines.writerow(
            [f"I{seed}-{n:04}", customer, dice.choice(sorted(PRODUCTS)), dice.randint(1, 4)]
        )
    return file.getvalue()


def import_orders(text: str, job: str) -> None:
    """The job itself; the same in a thread, a task or a command."""
    with Progress(id=job, total=100) as progress:
        with progress.step(_("Reading the file"), weight=5) as reading:
            rows = list(reading.track(rows_of(text)))
        added = 0
        with progress.step(_("Placing orders"), total=len(rows), weight=95) as placing:
            for number, row in enumerate(placing.track(rows), start=2):
                fault = place(row)
                if fault:
                    progress.log(
                        _("Line %(number)s: %(fault)s") % {"number": number, "fault": fault},
                        "warning",
                    )
                else:
                    added += 1
                progress.update(message=_("%(added)s orders were placed.") % {"added": added})
        progress.finish(
            result={"added": added, "left_out": len(rows) - added}, link=reverse("orders:list")
        )


def rows_of(text: str) -> list[dict[str, str]]:
    """Raises ``Rejected`` with words for whoever chose the file."""
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames is None or [*reader.fieldnames] != COLUMNS:
        raise Rejected(_("The first line has to be: %s") % ",".join(COLUMNS))
    return list(reader)


def place(row: dict[str, str]) -> str:
    """Place one order; why not, if it cannot be."""
    customer = User.objects.filter(username=row["customer"]).first()
    if customer is None:
        return _("there is no customer %s") % row["customer"]
    if row["product"] not in PRODUCTS or not (row["quantity"] or "").isdecimal():
        return _("there is no such product, or no quantity")
    if not row["number"] or Order.objects.filter(number=row["number"]).exists():
        return _("the order %s is there already") % row["number"]
    quantity = int(row["quantity"])
    with transaction.atomic():
        order = Order.objects.create(
            number=row["number"][:20],
            customer=customer,
            status=Order.Status.DELIVERED,
            total=PRODUCTS[row["product"]][1] * quantity,
        )
        add_lines(order, {row["product"]: quantity})
    return ""


def begin_in_thread(text: str, job: str) -> None:
    """A thread of the web process is enough for a demonstration, which has no workers. It ends with the
    process; a task queue's worker runs the same function and does not."""

    def work() -> None:
        try:
            import_orders(text, job)
        except Rejected:
            pass  # the page says it
        finally:
            connections.close_all()

    Thread(target=work, daemon=True).start()


def decoded(chunks: Iterable[bytes]) -> str:
    """The text of a file that was uploaded. Raises ``Rejected``."""
    content = b"".join(chunks)
    if len(content) > MOST_BYTES:
        raise Rejected(_("This file is too large."))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected(_("This file is no text in UTF-8.")) from error
