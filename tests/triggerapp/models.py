"""What a machine writes, without Django."""

from __future__ import annotations

from django.db import models


class Reading(models.Model):
    """Columns of the kinds that JSON changes, one with another name than its field."""

    sensor = models.CharField(max_length=50)
    value = models.DecimalField(max_digits=30, decimal_places=10, db_column="Wert")
    taken = models.DateTimeField(null=True)
    raw = models.BinaryField(default=b"")
    extra = models.JSONField(default=dict)
    token = models.UUIDField(null=True)
