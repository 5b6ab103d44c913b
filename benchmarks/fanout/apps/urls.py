"""The addresses of the subjects that are Django; each has its own."""

from django.conf import settings
from django.urls import include, path

from benchmarks.fanout.apps.views import plain

urlpatterns = [path("plain/", plain)]
if "django_live" in settings.INSTALLED_APPS:
    urlpatterns += [path("live/", include("django_live.urls"))]
elif "django_eventstream" in settings.INSTALLED_APPS:
    urlpatterns += [path("events/", include("django_eventstream.urls"), {"channels": ["ticks"]})]
