"""The addresses of the tests' site, and those that publish."""

from django.urls import path

from tests.servers.everywhere import async_view, process_view, sync_view
from tests.urls import urlpatterns as of_the_site

urlpatterns = [
    path("sync/<path:topic>", sync_view),
    path("async/<path:topic>", async_view),
    path("process/", process_view),
    *of_the_site,
]
