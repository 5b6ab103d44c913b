"""How Sphinx builds these pages: `make docs`, with warnings as errors."""

import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings_for_pages"
django.setup()

project = "django_live"
copyright = "the django_live authors"  # noqa: A001 -- Sphinx's name for it
extensions = ["myst_parser", "sphinx.ext.autodoc"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "django_live"
exclude_patterns = ["_build"]
nitpicky = True
# Of annotations: most are other packages' names, or our own that need no page.
nitpick_ignore_regex = [(r"py:.*", r".*")]
