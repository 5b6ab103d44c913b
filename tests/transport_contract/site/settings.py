"""Settings of the site that the transports are compared on."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as APPS

INSTALLED_APPS = [*APPS, "tests.transport_contract.site"]
ROOT_URLCONF = "tests.transport_contract.site.urls"

DJANGO_LIVE = {
    # A keep-alive every half second: some fall into every write that has to wait.
    "HEARTBEAT": 1.0,
    # A client of several transports is one address, and opens many connections one after the other.
    "OPENING_RATE": 10_000,
}
