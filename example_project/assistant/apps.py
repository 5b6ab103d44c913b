"""The app with the assistant."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AssistantConfig(AppConfig):
    name = "example_project.assistant"
    verbose_name = _("Assistant")
