"""The addresses of the counter."""

from django.urls import path

from example_project.people import views

app_name = "people"

urlpatterns = [
    path("", views.counter, name="counter"),
    path("note/", views.send_note, name="note"),
]
