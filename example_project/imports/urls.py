"""The addresses of the page."""

from django.urls import path

from example_project.imports import views

app_name = "imports"

urlpatterns = [
    path("", views.page, name="page"),
    path("begin/", views.begin, name="begin"),
]
