"""Settings of the site that the tests of transports and tabs browse."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.browser.transport_pages"
