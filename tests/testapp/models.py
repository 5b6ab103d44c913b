"""Orders, visible to their customer and to staff."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models


class OrderQuerySet(models.QuerySet["Order"]):
    """How a site asks who may see what."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> OrderQuerySet:
        """Staff see every order, a customer their own, anybody else none."""
        if not user.is_authenticated:
            return self.none()
        if getattr(user, "is_staff", False):
            return self.all()
        return self.filter(customer_id=user.pk)


class Order(models.Model):
    """One order; `status` and `total` are what changes."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    status = models.CharField(max_length=20, default="new")
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)

    objects = OrderQuerySet.as_manager()

    def __str__(self) -> str:
        return f"order {self.pk}: {self.status}"
