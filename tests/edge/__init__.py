"""A GRIP proxy in front of the site."""
