"""Django's seat of the app."""

from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "example_project.news"
