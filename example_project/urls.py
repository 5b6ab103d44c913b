"""The addresses of the example project."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

from example_project.orders.views import DemoLoginView

urlpatterns = [
    path("", include("example_project.orders.urls")),
    path("transports/", include("example_project.transports.urls")),
    path("import/", include("example_project.imports.urls")),
    path("assistant/", include("example_project.assistant.urls")),
    path("people/", include("example_project.people.urls")),
    path("notifications/", include("django_live.notifications.urls")),
    path("chat/", include("django_live.chat.urls")),
    path("remote/", include("example_project.talk.urls")),
    path("news/", include("example_project.news.urls")),
    path("boards/", include("example_project.boards.urls")),
    path("login/", DemoLoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("live/", include("django_live.urls")),
    path("admin/", admin.site.urls),
]

# runserver serves static files by itself; uvicorn and Daphne do not. Only while DEBUG is on.
urlpatterns += staticfiles_urlpatterns()
