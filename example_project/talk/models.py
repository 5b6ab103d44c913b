"""The roaster that the remote control works."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class Roaster(models.Model):
    """A machine, as those who watch it know it."""

    name = models.CharField(_("name"), max_length=60, unique=True)
    is_on = models.BooleanField(_("on"), default=False)
    degrees = models.PositiveSmallIntegerField(_("temperature"), default=180)
    drum = models.PositiveSmallIntegerField(_("turns a minute"), default=40)
    worked_by = models.CharField(_("last worked by"), max_length=150, blank=True)

    objects: ClassVar[models.Manager[Roaster]] = models.Manager()

    class Meta:
        verbose_name = _("roaster")
        verbose_name_plural = _("roasters")

    def __str__(self) -> str:
        return self.name
