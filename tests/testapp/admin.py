"""The admin's view of orders."""

from django.contrib import admin

from tests.testapp.models import Order

admin.site.register(Order)
