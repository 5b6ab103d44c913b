"""The addresses of the page."""

from django.urls import path

from example_project.assistant import views

app_name = "assistant"

urlpatterns = [
    path("", views.page, name="page"),
    path("ask/", views.ask, name="ask"),
]
