"""The address of the dashboard."""

from django.urls import path

from example_project.boards import views

app_name = "boards"

urlpatterns = [path("", views.dashboard, name="dashboard")]
