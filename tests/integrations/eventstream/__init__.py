"""django-eventstream: its own site, and the same site over ours."""
