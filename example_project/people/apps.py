"""Django's seat of the app."""

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "example_project.people"
