"""How Sphinx builds these pages: `make docs`, with warnings as errors."""

project = "django_live"
copyright = "the django_live authors"  # noqa: A001 -- Sphinx's name for it
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "django_live"
exclude_patterns = ["_build"]
nitpicky = True
