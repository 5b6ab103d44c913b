"""What the demonstration is made of: log-ins, goods, and a handful of orders."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from example_project.orders.models import Order, OrderLine, StatusChange

FIRST_NUMBER = 1001


@dataclass(frozen=True)
class DemoLogin:
    username: str
    first_name: str
    last_name: str
    is_staff: bool = False

    @property
    def password(self) -> str:
        return f"demo-{self.username}"

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}"


STAFF = DemoLogin("staff", "Mira", "Okafor", is_staff=True)
ANNA = DemoLogin("anna", "Anna", "Lindqvist")
BERT = DemoLogin("bert", "Bert", "Hagemann")
DEMO_LOGINS = (STAFF, ANNA, BERT)

PRODUCTS = {
    "guji": ("Ethiopia Guji, whole bean, 250 g", Decimal("11.90")),
    "huila": ("Colombia Huila, whole bean, 500 g", Decimal("17.50")),
    "decaf": ("Night Shift decaf, ground, 250 g", Decimal("10.80")),
    "espresso": ("Millstone espresso blend, 1 kg", Decimal("27.00")),
    "papers": ("Filter papers, size 02, 100 sheets", Decimal("4.20")),
    "dripper": ("Stoneware dripper, slate grey", Decimal("32.00")),
    "grinder": ("Hand grinder, steel burrs", Decimal("89.00")),
    "cups": ("Pair of stoneware cups", Decimal("24.50")),
    "gift": ("Tasting box, six coffees", Decimal("39.00")),
}


@dataclass(frozen=True)
class DemoOrder:
    customer: DemoLogin
    hours_ago: float
    history: tuple[Order.Status, ...]
    lines: dict[str, int]
    note: str = ""


NEW, PAID, PACKED, SHIPPED, DELIVERED = Order.PATH
CANCELLED = Order.Status.CANCELLED

DEMO_ORDERS = (
    DemoOrder(ANNA, 340, (NEW, PAID, PACKED, SHIPPED, DELIVERED), {"guji": 2, "papers": 1}),
    DemoOrder(BERT, 312, (NEW, PAID, PACKED, SHIPPED, DELIVERED), {"espresso": 2}),
    DemoOrder(BERT, 268, (NEW, CANCELLED), {"grinder": 1}, "Ordered twice by mistake."),
    DemoOrder(ANNA, 219, (NEW, PAID, PACKED, SHIPPED, DELIVERED), {"dripper": 1, "papers": 2}),
    DemoOrder(BERT, 171, (NEW, PAID, PACKED, SHIPPED, DELIVERED), {"huila": 1, "decaf": 1}),
    DemoOrder(
        ANNA,
        96,
        (NEW, PAID, PACKED, SHIPPED),
        {"gift": 1, "cups": 1},
        "A present: no invoice in the parcel, please.",
    ),
    DemoOrder(BERT, 74, (NEW, PAID, PACKED, SHIPPED), {"espresso": 1, "papers": 3}),
    DemoOrder(BERT, 70, (NEW, PAID, CANCELLED), {"cups": 3}, "One cup arrived chipped last time."),
    DemoOrder(ANNA, 52, (NEW, PAID, PACKED, SHIPPED), {"huila": 2}),
    DemoOrder(
        BERT,
        30,
        (NEW, PAID, PACKED),
        {"grinder": 1, "guji": 1},
        "Leave with the neighbour on the left.",
    ),
    DemoOrder(ANNA, 27, (NEW, PAID, PACKED), {"decaf": 3}),
    DemoOrder(ANNA, 20, (NEW, PAID), {"cups": 1, "guji": 1, "papers": 1}),
    DemoOrder(
        BERT, 9, (NEW, PAID), {"huila": 4}, "For the office: grind coarse for a French press."
    ),
    DemoOrder(BERT, 6, (NEW, PAID), {"decaf": 1}),
    DemoOrder(ANNA, 3, (NEW,), {"espresso": 1}),
    DemoOrder(BERT, 0.6, (NEW,), {"gift": 2}, "Delivery before Friday would be lovely."),
)


def next_order_number() -> str:
    """One more than the latest number. Good enough for a demonstration, where nobody places orders at once."""
    latest = Order.objects.filter(number__regex=r"^M-[0-9]+$").order_by("-pk").first()
    return f"M-{int(latest.number.removeprefix('M-')) + 1 if latest else FIRST_NUMBER}"


@transaction.atomic
def ensure_login(login: DemoLogin) -> User:
    """Creates the user, or makes the known log-in work again for one that exists."""
    user, _ = User.objects.get_or_create(username=login.username)
    user.first_name, user.last_name = login.first_name, login.last_name
    user.is_active, user.is_staff, user.is_superuser = True, login.is_staff, login.is_staff
    # A password that already works is left alone: setting it again would end that user's sessions.
    if not user.check_password(login.password):
        user.set_password(login.password)
    user.save()
    return user


@transaction.atomic
def ensure_demo_order(number: str, demo: DemoOrder) -> bool:
    """Places the order as it would be by now; an order that exists is left as visitors changed it."""
    if Order.objects.filter(number=number).exists():
        return False
    placed_at = timezone.now() - timedelta(hours=demo.hours_ago)
    reached = times_reached(placed_at, len(demo.history))
    order = Order.objects.create(
        number=number,
        customer=User.objects.get(username=demo.customer.username),
        status=demo.history[-1],
        total=sum(
            (PRODUCTS[key][1] * quantity for key, quantity in demo.lines.items()), Decimal("0.00")
        ),
        note=demo.note,
        placed_at=placed_at,
    )
    add_lines(order, demo.lines)
    order.status_changes.all().delete()
    StatusChange.objects.bulk_create(
        StatusChange(order=order, status=status, changed_at=at)
        for status, at in zip(demo.history, reached, strict=True)
    )
    Order.objects.filter(pk=order.pk).update(updated_at=reached[-1])
    return True


def times_reached(placed_at: datetime, steps: int) -> list[datetime]:
    """Plausible times between the placing and now, each step taking longer than the one before."""
    so_far = timezone.now() - placed_at
    return [placed_at + min(timedelta(hours=step**2 * 5.3), so_far * 0.95) for step in range(steps)]


def place_new_order(dice: random.Random) -> Order:
    """A new order by a random demo customer, as it would come in from the shop."""
    lines = {key: dice.randint(1, 3) for key in dice.sample(sorted(PRODUCTS), k=dice.randint(1, 3))}
    with transaction.atomic():
        order = Order.objects.create(
            number=next_order_number(),
            customer=User.objects.get(username=dice.choice([ANNA, BERT]).username),
            total=sum(
                (PRODUCTS[key][1] * quantity for key, quantity in lines.items()), Decimal("0.00")
            ),
        )
        add_lines(order, lines)
    return order


def add_lines(order: Order, lines: dict[str, int]) -> None:
    OrderLine.objects.bulk_create(
        OrderLine(order=order, product=PRODUCTS[key][0], quantity=quantity, price=PRODUCTS[key][1])
        for key, quantity in lines.items()
    )
