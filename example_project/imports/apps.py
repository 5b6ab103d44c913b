"""The app that imports orders."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ImportsConfig(AppConfig):
    name = "example_project.imports"
    verbose_name = _("Imports")
