"""The addresses of the remote control."""

from django.urls import path

from example_project.talk import views

app_name = "talk"

urlpatterns = [
    path("", views.remote, name="remote"),
    path("<int:pk>/work/", views.work_it, name="work"),
]
