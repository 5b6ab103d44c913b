"""The tests' addresses, and those of a project that comes from django-eventstream."""

from typing import Any

from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.urls import urlpatterns as of_the_tests


def sign_in(request: HttpRequest) -> HttpResponse:
    user, _ = User.objects.get_or_create(username=request.GET["name"])
    user.last_name = "allowed"
    user.save()
    login(request, user)
    return HttpResponse(str(user.pk))


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("signed out")


urlpatterns: list[Any] = [
    path("sign-in/", sign_in),
    path("sign-out/", sign_out),
    path("one/<channel>/", include("django_eventstream.urls")),
    *of_the_tests,
]
