"""The addresses of the page."""

from django.urls import path

from example_project.transports import views

app_name = "transports"

urlpatterns = [
    path("", views.side_by_side, name="side-by-side"),
    path("beat/", views.send_beat, name="beat"),
]
