"""The app of the members."""

from django.apps import AppConfig


class MembersConfig(AppConfig):
    name = "tests.compatibility.members"
    label = "members"
    default_auto_field = "django.db.models.BigAutoField"
