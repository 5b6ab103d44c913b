"""Orders, visible to their customer and to staff; and what else an object may consist of."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models


class OrdersOfTests(models.QuerySet["Order"]):
    """How a site asks who may see what."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> OrdersOfTests:
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

    objects = OrdersOfTests.as_manager()

    def __str__(self) -> str:
        return f"order {self.pk}: {self.status}"


class Document(models.Model):
    """Has columns of the kinds that are not plain text or numbers, and a key of its own."""

    code = models.SlugField(primary_key=True, max_length=40)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    token = models.UUIDField(default=uuid.uuid4)
    day = models.DateField(null=True, blank=True)
    file = models.FileField(upload_to="documents", blank=True)
    extra = models.JSONField(default=dict, blank=True)
    size = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.code


class Note(models.Model):
    """Python makes its key before it is saved."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    text = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.text


class UrgentOrder(Order):
    """The same rows, with a method of their own."""

    class Meta:
        proxy = True

    def is_urgent(self) -> bool:
        """Whether somebody waits for it."""
        return self.status == "urgent"


class Place(models.Model):
    """A model that others inherit from."""

    name = models.CharField(max_length=50)
    street = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    """Has a table of its own beside the place's."""

    kitchen = models.CharField(max_length=50)


class Team(models.Model):
    """Works on tickets."""

    name = models.CharField(max_length=50)
    motto = models.CharField(max_length=50, blank=True)


class Label(models.Model):
    """Sticks to tickets."""

    name = models.SlugField(max_length=50)


class Ticket(models.Model):
    """Has relations of every kind, and what not everybody may see."""

    title = models.CharField(max_length=50)
    secret = models.CharField(max_length=50, blank=True)
    team = models.ForeignKey(Team, models.SET_NULL, null=True, related_name="tickets")
    labels = models.ManyToManyField(Label, related_name="tickets")
    watchers = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Watching")
    removed = models.BooleanField(default=False)


class Watching(models.Model):
    """Who watches a ticket: a many-to-many table of its own."""

    ticket = models.ForeignKey(Ticket, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    mode = models.CharField(max_length=20, default="all")


class Comment(models.Model):
    """Said of a ticket."""

    ticket = models.ForeignKey(Ticket, models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True)
    text = models.CharField(max_length=50)


class Estimate(models.Model):
    """What a ticket is thought to cost: one for each."""

    ticket = models.OneToOneField(Ticket, models.CASCADE)
    hours = models.IntegerField(default=1)
