"""The site under WSGI: with a proxy it can stream all the same."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
