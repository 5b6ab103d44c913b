"""The same site after its move: two apps more, and nothing else."""

from tests.integrations.eventstream.theirs import *  # noqa: F403
from tests.integrations.eventstream.theirs import INSTALLED_APPS as THEIR_APPS

INSTALLED_APPS = [*THEIR_APPS, "django_live", "django_live.integrations.eventstream"]
