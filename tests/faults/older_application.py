"""A web process of the release before: its messages between processes are those of version 1."""

from tests.asgi import application

__all__ = ["application"]

from tests.faults import older_release

older_release.install()
