"""A page as any site has it, to compare openings with: who asks, in a line of text."""

from django.http import HttpRequest, HttpResponse


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"hello {request.user.pk}")
