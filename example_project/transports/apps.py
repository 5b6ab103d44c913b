"""The app with the page that compares the transports."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TransportsConfig(AppConfig):
    name = "example_project.transports"
    verbose_name = _("Transports")
