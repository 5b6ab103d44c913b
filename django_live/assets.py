"""The script and style sheet of a feature, for its template tags.

A page loads what it uses: `live.js` from `{% live_client %}`, and `live-<feature>.js` with the first
tag of that feature. Must keep true: no inline code, and the page's nonce on every script.
"""

from __future__ import annotations

from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

_LOADED = "_django_live_assets"


def csp_nonce(context: Context) -> str:
    """``csp_nonce`` of the context or of its request; empty where there is none."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    # As text before it is asked whether there is one: Django's lazy nonce is false until it is made.
    return "" if nonce is None else str(nonce)


def feature_assets(context: Context, feature: str, *, style: bool = True) -> SafeString:
    """Tags for ``live-<feature>.css`` and ``live-<feature>.js``, the first time in an answer; then
    nothing. Without a request in the context every time, which browsers take in their stride."""
    request = context.get("request")
    if request is not None:
        loaded = request.__dict__.setdefault(_LOADED, set())
        if feature in loaded:
            return mark_safe("")
        loaded.add(feature)
    nonce = csp_nonce(context)
    return format_html(
        '{}<script src="{}" defer{}></script>',
        format_html('<link rel="stylesheet" href="{}">', static(f"django_live/live-{feature}.css"))
        if style
        else "",
        static(f"django_live/live-{feature}.js"),
        format_html(' nonce="{}"', nonce) if nonce else "",
    )
