"""A site without addresses for streams: its admin is there all the same."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
