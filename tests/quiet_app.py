"""django_live's seat in Django, for a tool that wants to know the models only."""

from django_live.apps import DjangoLiveConfig


class WithoutDiscovery(DjangoLiveConfig):
    """Neither discovers topics nor connects signals."""

    def ready(self) -> None:
        """Do nothing."""
