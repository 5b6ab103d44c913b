"""Settings of the site that is attacked."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.browser.attack_pages"
