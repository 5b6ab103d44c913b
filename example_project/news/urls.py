"""The address of the feed."""

from django.urls import path

from example_project.news import views

app_name = "news"

urlpatterns = [path("", views.news, name="news")]
