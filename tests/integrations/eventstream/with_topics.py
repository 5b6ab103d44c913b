"""A site whose channels are the Topics that it declares."""

from tests.integrations.eventstream.ours import *  # noqa: F403
from tests.integrations.eventstream.ours import INSTALLED_APPS as OUR_APPS
from tests.settings import DJANGO_LIVE as TESTS_LIVE

INSTALLED_APPS = [*OUR_APPS, "django_live.notifications", "tests.testapp"]
ROOT_URLCONF = "tests.integrations.eventstream.with_topics_urls"
DJANGO_LIVE = TESTS_LIVE
EVENTSTREAM_CHANNELMANAGER_CLASS = "django_live.integrations.eventstream.TopicChannelManager"
EVENTSTREAM_STORAGE_CLASS = "django_live.integrations.eventstream.LogStorage"
