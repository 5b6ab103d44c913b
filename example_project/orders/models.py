"""Orders, what is in them, and when they changed their status. Nothing here knows of live features."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from example_project.orders.permissions import may_see_all_orders

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class OrderQuerySet(models.QuerySet["Order"]):
    def visible_to(self, user: User | AnonymousUser) -> OrderQuerySet:
        """Staff see all orders, a customer their own, anybody else none."""
        if not user.is_authenticated:
            return self.none()
        if may_see_all_orders(user):
            return self.all()
        return self.filter(customer_id=user.pk)

    def open(self) -> OrderQuerySet:
        return self.exclude(status__in=Order.FINISHED)

    def finished(self) -> OrderQuerySet:
        return self.filter(status__in=Order.FINISHED)

    def with_contents(self) -> OrderQuerySet:
        """Loads what a page shows of each order, in a number of queries that does not grow with the orders."""
        return self.select_related("customer").prefetch_related("lines")


class Order(models.Model):
    class Status(models.TextChoices):
        NEW = "new", _("New")
        PAID = "paid", _("Paid")
        PACKED = "packed", _("Packed")
        SHIPPED = "shipped", _("Shipped")
        DELIVERED = "delivered", _("Delivered")
        CANCELLED = "cancelled", _("Cancelled")

    PATH = (Status.NEW, Status.PAID, Status.PACKED, Status.SHIPPED, Status.DELIVERED)
    FINISHED = (Status.DELIVERED, Status.CANCELLED)

    number = models.CharField(_("number"), max_length=20, unique=True)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="orders",
        verbose_name=_("customer"),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status, default=Status.NEW, db_index=True
    )
    total = models.DecimalField(
        _("total"), max_digits=10, decimal_places=2, default=Decimal("0.00")
    )
    note = models.TextField(_("note"), blank=True)
    placed_at = models.DateTimeField(_("placed at"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ("-placed_at", "-pk")

    def __str__(self) -> str:
        return self.number

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the order and, when its status is a new one, remembers since when."""
        saved_fields = kwargs.get("update_fields")
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            if saved_fields is None or "status" in saved_fields:
                self._remember_status()

    def get_absolute_url(self) -> str:
        return reverse("orders:detail", kwargs={"pk": self.pk})

    def _remember_status(self) -> None:
        latest = self.status_changes.last()
        if latest is None or latest.status != self.status:
            self.status_changes.create(status=self.status)

    @property
    def status_choice(self) -> Order.Status:
        """The status as the choice it is, with its label."""
        return self.Status(self.status)

    @property
    def is_finished(self) -> bool:
        return self.status in self.FINISHED

    @property
    def next_status(self) -> Order.Status | None:
        """The step after the present one on an order's usual path; None at its end and for cancelled orders."""
        if self.is_finished:
            return None
        return self.PATH[self.PATH.index(self.status_choice) + 1]

    def total_of_lines(self) -> Decimal:
        return sum((line.amount for line in self.lines.all()), Decimal("0.00"))


class OrderLine(models.Model):
    order = models.ForeignKey(
        Order, on_delete=models.CASCADE, related_name="lines", verbose_name=_("order")
    )
    product = models.CharField(_("product"), max_length=120)
    quantity = models.PositiveIntegerField(
        _("quantity"), default=1, validators=[MinValueValidator(1)]
    )
    price = models.DecimalField(_("price"), max_digits=8, decimal_places=2)

    class Meta:
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product}"

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.price


class StatusChange(models.Model):
    order = models.ForeignKey(
        Order, on_delete=models.CASCADE, related_name="status_changes", verbose_name=_("order")
    )
    status = models.CharField(_("status"), max_length=10, choices=Order.Status)
    changed_at = models.DateTimeField(_("changed at"), default=timezone.now)

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("status changes")
        ordering = ("changed_at", "pk")

    def __str__(self) -> str:
        return f"{self.order_id}: {self.get_status_display()}"
