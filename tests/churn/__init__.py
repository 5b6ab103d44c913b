"""Connections that come and go, by the thousand: nothing of them is left."""
