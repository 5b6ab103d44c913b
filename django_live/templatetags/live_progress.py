"""``{% load live_progress %}``: how far a job is, in a page; readable without JavaScript, too."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..assets import feature_assets
from ..core.positions import page_cursor
from ..core.topics import Topic, Viewer
from ..features.progress import JobsTopic, ProgressTopic, jobs_of
from ..features.progress.records import SCOPE, Job, find_lively
from ..transports.requests import Refused, viewer_of

register = template.Library()


@register.simple_tag(takes_context=True)
def live_progress(context: Context, job: Any) -> SafeString:
    """``{% live_progress job %}``: a ``Job``, a ``Progress``, or the id of one. Nothing where the visitor
    may not see it, or there is none."""
    request = _request(context)
    viewer = _viewer(request)
    # The position before the record: what is told in between is told again, not lost.
    topic = ProgressTopic(
        namespace=viewer.namespace if viewer else "", id=str(getattr(job, "id", job))
    )
    cursor = page_cursor(request, [topic])
    found = find_lively(topic.id)
    if viewer is None or found is None or not found.allows(viewer, viewer.namespace):
        return mark_safe("")
    return mark_safe(feature_assets(context, "progress") + _html(context, found, viewer, cursor))  # noqa: S308


@register.simple_tag(takes_context=True)
def live_jobs(context: Context, most: int = 20) -> SafeString:
    """``{% live_jobs %}``: the visitor's own jobs, the newest first; new ones come by themselves."""
    request = _request(context)
    viewer = _viewer(request)
    if viewer is None or viewer.user_id is None or not viewer.can(SCOPE):
        return mark_safe("")
    topic = JobsTopic(namespace=viewer.namespace, owner=viewer.user_id)
    found = jobs_of(viewer.user_id, viewer.namespace, most=most)
    topics: list[Topic] = [ProgressTopic(namespace=viewer.namespace, id=job.id) for job in found]
    jobs = [
        {"id": job.id, "html": _html(context, job, viewer, page_cursor(request, [topic]))}
        for job, topic in zip(found, topics, strict=True)
    ]
    html = render_to_string(
        "django_live/jobs.html",
        {"topic": topic, "cursor": page_cursor(request, [topic]), "jobs": jobs},
    )
    return mark_safe(feature_assets(context, "progress") + html)  # noqa: S308


def _request(context: Context) -> Any:
    request = context.get("request")
    if request is None:
        raise template.TemplateSyntaxError(
            "Progress is shown to those who may see it: the template needs `request` in its context "
            "(the context processor django.template.context_processors.request)."
        )
    return request


def _viewer(request: Any) -> Viewer | None:
    try:
        return viewer_of(request)
    except Refused:
        return None


def _html(context: Context, job: Job, viewer: Viewer, cursor: str) -> str:
    view = job.view
    texts = {
        "waiting": _("Waiting"),
        "running": _("Running"),
        "stalled": _("Not responding"),
        "done": _("Done"),
        "failed": _("Failed"),
        "cancelled": _("Cancelled"),
    }
    is_staff = not viewer.scoped and getattr(viewer.user, "is_staff", False)
    fraction = view["fraction"]
    percent = None if fraction is None else int(fraction * 100)
    return render_to_string(
        "django_live/progress.html",
        {
            "job": job,
            "view": view,
            "topic": ProgressTopic(namespace=job.access.namespace, id=job.id).name,
            "cursor": cursor,
            "url": reverse("django_live:job", args=[job.id]),
            "texts": texts,
            "state": texts[view["state"]],
            "percent": percent,
            "counted": counted(view),
            "left": left(view["left"]),
            "may_cancel": view["cancellable"] and not job.is_over,
            "traceback": job.traceback if is_staff else "",
            "csrf_token": context.get("csrf_token", ""),
            "next": context["request"].get_full_path(),
            "attempt": _("Attempt %s") % view["attempt"] if view["attempt"] > 1 else "",
        },
    )


def counted(view: dict[str, Any]) -> str:
    """What is done, of how much: “420 of 1,000 rows”."""
    done, total = _whole(view["done"]), view["total"]
    text = done
    if total is not None:
        text = _("%(done)s of %(total)s") % {"done": done, "total": _whole(total)}
    return f"{text} {view['unit']}".rstrip()


def _whole(number: float) -> str:
    return str(number_format(int(number), 0, force_grouping=True))  # as the script writes it


def left(seconds: float | None) -> str:
    """How long it will take, as exactly as it is known."""
    if seconds is None:
        return ""
    if seconds < 60:
        count = max(1, round(seconds))
        time = ngettext("%(count)d second", "%(count)d seconds", count) % {"count": count}
    elif seconds < 3600:
        count = round(seconds / 60)
        time = ngettext("%(count)d minute", "%(count)d minutes", count) % {"count": count}
    else:
        count = round(seconds / 3600)
        time = ngettext("%(count)d hour", "%(count)d hours", count) % {"count": count}
    return _("about %s left") % time
