"""The tests' site with the pages of ``tests/servers/everywhere.py`` before its own."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.servers.everywhere_urls"
