"""The tests' site with the pages of ``tests/servers/reporting_urls.py``."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.servers.reporting_urls"
