"""``path("notifications/", include("django_live.notifications.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "live_notifications"

urlpatterns = [
    path("", views.notification_list, name="list"),
    path("latest/", views.latest, name="latest"),
    path("read/", views.read, name="read"),
    path("<int:pk>/", views.follow, name="follow"),
    path("preferences/", views.preferences, name="preferences"),
]
