"""Live values that stay cheap when they change a thousand times a second.

A board is a topic of one of four kinds, declared in an app's ``live.py``: ``Latest`` (one value),
``Keyed`` (rows by key), ``Window`` (the last points of some series), ``Lines`` (the last lines of a
log). What is written goes to the store a few times a second; each process that has viewers keeps the
board's state once, and gives its viewers what changed, at the rate they asked for.

Must keep true: what a viewer saw last is what the store holds, a check interval later at most, whatever
the bus loses, delays or repeats.
"""

from .sources import live_source
from .topics import Board, Keyed, Latest, Lines, Window
from .writing import (
    aadd_lines,
    aadd_points,
    add_lines,
    add_points,
    aremove_rows,
    aset_rows,
    aset_value,
    remove_rows,
    set_rows,
    set_value,
)

__all__ = [
    "Board",
    "Keyed",
    "Latest",
    "Lines",
    "Window",
    "aadd_lines",
    "aadd_points",
    "add_lines",
    "add_points",
    "aremove_rows",
    "aset_rows",
    "aset_value",
    "live_source",
    "remove_rows",
    "set_rows",
    "set_value",
]
