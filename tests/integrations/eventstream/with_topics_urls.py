"""Both kinds of addresses."""

from typing import Any

from tests.integrations.eventstream.site import urlpatterns as of_the_site
from tests.urls import urlpatterns as of_the_tests

urlpatterns: list[Any] = [*of_the_site, *of_the_tests]
