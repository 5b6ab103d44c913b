"""The app with the dashboard."""

import logging

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BoardsConfig(AppConfig):
    name = "example_project.boards"
    verbose_name = _("Boards")

    def ready(self) -> None:
        from django_live.features.dashboards.inputs import LiveHandler
        from example_project.boards.live import SiteLog

        logger = logging.getLogger("example_project")
        logger.setLevel(logging.INFO)
        logger.addHandler(LiveHandler(SiteLog()))
