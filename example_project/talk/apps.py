"""Django's seat of the app."""

from django.apps import AppConfig


class TalkConfig(AppConfig):
    name = "example_project.talk"
    label = "talk"
