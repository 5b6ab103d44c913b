"""``{% load live_answers %}``: an answer in a page, as it is written; readable without JavaScript, too."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from ..assets import feature_assets
from ..core.events import place_text
from ..features.token_streams import AnswerTopic
from ..features.token_streams.answers import allows, find_lively
from ..features.token_streams.folding import folded_log
from ..features.token_streams.markdown import as_html
from ..transports.requests import Refused, viewer_of

register = template.Library()


@register.simple_tag(takes_context=True)
def live_answer(context: Context, answer: Any) -> SafeString:
    """``{% live_answer answer %}``: an ``Answer``, a ``TokenStream``, or the id of one. Nothing where the
    visitor may not read it, or there is none."""
    request = context.get("request")
    if request is None:
        raise template.TemplateSyntaxError(
            "An answer is shown to those who may read it: the template needs `request` in its context "
            "(the context processor django.template.context_processors.request)."
        )
    try:
        viewer = viewer_of(request)
    except Refused:
        return mark_safe("")
    found = find_lively(str(getattr(answer, "key", getattr(answer, "id", answer))))
    if found is None or not allows(found, viewer, viewer.namespace):
        return mark_safe("")
    values: dict[str, Any] = {"text": found.text, "reasoning": found.reasoning}
    topic = AnswerTopic(namespace=found.namespace, id=found.key)
    if not found.is_over:
        # Exactly as far as the cursor says: what comes after it is added to this.
        said, position, _is_whole = folded_log(topic)
        values = {"text": said.text, "reasoning": said.reasoning, "t": said.token, "n": said.n}
        values |= {"cursor": place_text(topic.key, position), "topic": topic.name}
    texts = {
        "waiting": _("Waiting"),
        "running": _("Writing"),
        "done": _("Complete"),
        "stopped": _("Stopped"),
        "failed": _("Failed"),
        "lost": _("The connection to the writer was lost"),
    }
    html = render_to_string(
        "django_live/answer.html",
        {
            "answer": found,
            "html": as_html(values["text"]) if found.is_over else "",
            "url": reverse("django_live:answer", args=[found.key]),
            "texts": texts,
            "state": texts[found.state],
            "csrf_token": context.get("csrf_token", ""),
            "next": request.get_full_path(),
            **values,
        },
    )
    return mark_safe(feature_assets(context, "answer") + html)  # noqa: S308
