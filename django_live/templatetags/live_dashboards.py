"""``{% load live_dashboards %}``: live values, tables, charts and logs. Each shows what the board holds
when the page is made, so that a page without JavaScript says the same, once; and nothing to who may not
subscribe to it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.context import Context
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from ..assets import feature_assets
from ..core.topics import Topic, as_topic
from ..features.dashboards import Board, Keyed, Latest, Lines, Window
from ..features.dashboards.reading import snapshot
from ..features.dashboards.sources import source_of
from ..showing import may_show
from ..transports.requests import namespace_of

register = template.Library()

TREND = mark_safe('<span data-part="trend" aria-hidden="true"></span>')
NOTHING = "\N{EN DASH}"
CHARTS = ("line", "bars", "sparkline")
LIBRARIES = ("", "uplot", "chartjs")


@register.simple_tag(takes_context=True)
def live_value(
    context: Context,
    topic: Any,
    *,
    field: str = "",
    places: int | str = "",
    unit: str = "",
    trend: bool = True,
    rate: int | None = None,
    stale: float | None = None,
) -> SafeString:
    """The value of a ``Latest``, or a member of it (``field="memory.used"``). ``rate``: updates a second
    at most; ``stale``: seconds after which it counts as old."""
    board = _board(context, topic, Latest, "live_value")
    held = _held(context, board)
    if held is None:
        return mark_safe("")
    value = held["value"]
    for name in filter(None, field.split(".")):
        value = value.get(name) if isinstance(value, dict) else None
    options = {"field": field, "places": places, "unit": unit}
    return format_html(
        '{}<live-value{}><span data-part="value">{}</span>{}</live-value>',
        feature_assets(context, "dashboards"),
        _attributes(board, rate, stale, options),
        shown(value, places, unit),
        TREND if trend else "",
    )


@register.simple_tag(takes_context=True)
def live_table(
    context: Context,
    topic: Any,
    columns: str | Iterable[Any],
    *,
    key: str = "",
    caption: str = "",
    rate: int | None = None,
    stale: float | None = None,
) -> SafeString:
    """The rows of a ``Keyed``. ``columns`` are names in a row, parted by commas, each with a heading
    after a colon if you like (``"cpu:CPU, mem:Memory"``); or a list of (name, heading). ``key`` is the
    heading of the rows' keys, which are left out without it."""
    board = _board(context, topic, Keyed, "live_table")
    held = _held(context, board)
    if held is None:
        return mark_safe("")
    wanted = _columns(columns)
    if key:
        wanted.insert(0, ("", key))
    head = format_html_join("", '<th scope="col" data-column="{}">{}</th>', wanted)
    body = format_html_join(
        "",
        '<tr data-key="{}">{}</tr>',
        (
            (
                name,
                format_html_join(
                    "",
                    "<td>{}</td>",
                    ((shown(row.get(column)) if column else name,) for column, _ in wanted),
                ),
            )
            for name, row in held["rows"].items()
        ),
    )
    return format_html(
        "{}<live-table{}><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></live-table>",
        feature_assets(context, "dashboards"),
        _attributes(board, rate, stale),
        format_html("<caption>{}</caption>", caption) if caption else "",
        head,
        body,
    )


@register.simple_tag(takes_context=True)
def live_chart(
    context: Context,
    topic: Any,
    *,
    kind: str = "line",
    label: str = "",
    points: int | str = "",
    library: str = "",
    rate: int | None = None,
    stale: float | None = None,
) -> SafeString:
    """The series of a ``Window``: ``kind`` is line, bars or sparkline. ``library="uplot"`` or
    ``"chartjs"`` draws with that where the page has loaded it. The same in words stands in a table."""
    if kind not in CHARTS or library not in LIBRARIES:
        raise template.TemplateSyntaxError(
            f"{{% live_chart %}} draws {', '.join(CHARTS)}, and by itself or with library="
            f"'uplot' or 'chartjs'; not kind={kind!r}, library={library!r}."
        )
    board = _board(context, topic, Window, "live_chart")
    held = _held(context, board)
    if held is None:
        return mark_safe("")
    items = held["items"]
    names = list(dict.fromkeys(name for item in items for name in item[2]))
    rows = format_html_join(
        "",
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        ((name, *map(_two_places, _summary(items, name))) for name in names),
    )
    label = label or board.name
    table = format_html(
        "<details><summary>{}</summary><table><thead><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr>"
        "</thead><tbody>{}</tbody></table></details>",
        _("%(label)s in numbers") % {"label": label},
        _("Series"),
        _("Now"),
        _("Least"),
        _("Most"),
        rows,
    )
    options = {"kind": kind, "points": points, "with": library}
    return format_html(
        '{}<live-chart role="group" aria-label="{}"{}>{}</live-chart>',
        feature_assets(context, "dashboards"),
        label,
        _attributes(board, rate, stale, options),
        table,
    )


@register.simple_tag(takes_context=True)
def live_log(
    context: Context,
    topic: Any,
    *,
    label: str = "",
    most: int = 500,
    rate: int | None = None,
    stale: float | None = None,
) -> SafeString:
    """The last lines of a ``Lines``, followed while the reader stays at the end."""
    board = _board(context, topic, Lines, "live_log")
    held = _held(context, board)
    if held is None:
        return mark_safe("")
    lines = format_html_join(
        "",
        '<li data-level="{}"><time datetime="{}">{}</time> {}{}</li>',
        (
            (level, _moment(at).isoformat(), _clock(at), f"{level} " if level else "", text)
            for _offset, at, level, text in held["items"][-most:]
        ),
    )
    label = label or board.name
    return format_html(
        '{}<live-log{}><p><button type="button" data-part="pause" aria-pressed="false" hidden>{}</button> '
        '<input type="search" data-part="filter" placeholder="{}" aria-label="{}" hidden></p>'
        '<ol tabindex="0" role="log" aria-label="{}">{}</ol></live-log>',
        feature_assets(context, "dashboards"),
        _attributes(board, rate, stale, {"most": most}),
        _("Pause"),
        _("Filter"),
        _("Filter the lines"),
        label,
        lines,
    )


def shown(value: Any, places: int | str = "", unit: str = "") -> str:
    """A value as a reader sees it: what is no number and nothing, a dash."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = number_format(
            round(value, 3) if places == "" else value,
            decimal_pos=None if places == "" else int(places),
            use_l10n=True,
        )
    else:
        text = str(value)
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def _board(context: Context, topic: Any, kind: type[Board], tag: str) -> Board:
    request = context.get("request")
    namespace = namespace_of(request) if request is not None else ""
    if isinstance(topic, str):
        topic = as_topic(topic, namespace)
    elif isinstance(topic, Topic) and not topic.namespace:
        topic = topic.within(namespace)
    if not isinstance(topic, kind):
        raise template.TemplateSyntaxError(
            f"{{% {tag} %}} shows a {kind.__name__}, not {topic!r}. Declare one in an app's live.py."
        )
    return topic


def _held(context: Context, board: Board) -> dict[str, Any] | None:
    """What the reader of the page is shown of it; None: not even that there is one."""
    may = may_show(context, board)
    if may is None:
        return {"value": None, "rows": {}, "items": []}
    return snapshot(board) if may else None


def _attributes(
    board: Board, rate: int | None, stale: float | None, options: dict[str, Any] | None = None
) -> SafeString:
    source = source_of(board)
    if stale is None and source is not None:
        stale = round(3 * source.every + 2, 2)
    topic = board.at(int(rate)) if rate else board
    attributes = {
        "topic": topic.name,
        "stale": stale,
        "text-stale": _("This may be out of date."),
        **(options or {}),
    }
    named = ((name, value) for name, value in attributes.items() if value not in (None, ""))
    return format_html_join("", ' data-{}="{}"', named)


def _columns(columns: str | Iterable[Any]) -> list[tuple[str, str]]:
    if isinstance(columns, str):
        pairs = (part.partition(":") for part in columns.split(","))
        return [(name.strip(), (heading or name).strip()) for name, _, heading in pairs]
    return [one if isinstance(one, tuple) else (str(one), str(one)) for one in columns]


def _summary(items: list[Any], name: str) -> tuple[Any, Any, Any]:
    values = [item[2].get(name) for item in items]
    known = [value for value in values if value is not None]
    return values[-1], min(known, default=None), max(known, default=None)


def _two_places(value: Any) -> str:
    return shown(value, 2)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _clock(seconds: float) -> str:
    moment = _moment(seconds)
    with suppress(ValueError):  # USE_TZ is off, and there is no zone
        moment = localtime(moment)
    return date_format(moment, "H:i:s")
