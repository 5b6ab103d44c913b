"""The addresses of the tests' own site."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("tests.testapp.urls")),
    path(
        "accounts/login/",
        LoginView.as_view(template_name="testapp/login.html"),
        name="login",
    ),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("live/", include("django_live.urls")),
    path("notifications/", include("django_live.notifications.urls")),
    path("chat/", include("django_live.chat.urls")),
    path("admin/", admin.site.urls),
    # For browsers: of the servers that tests start, none but runserver does it by itself.
    path("static/<path:path>", serve, {"insecure": True}),
]
