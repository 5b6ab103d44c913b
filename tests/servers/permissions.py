"""Who may do what, and what takes it away: the expected answers of `test_permissions.py`, written by
hand and from the tests' site alone (`tests/testapp/live.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# -- what there is to ask for ----------------------------------------------------------------------

TOPICS = {
    "open": "open/a",  # everybody's
    "own": "orders/{own}",  # the customer's, and the staff's
    "foreign": "orders/{foreign}",
    "missing": "orders/999999",
    "readers": "readers/all",  # of those with a permission, their own or a group's
    "guarded": "guarded-orders/{own}",  # of those with a permission on this order
    "closed": "documents/a",  # declared, and nobody's
    "commands": "django_live/control",
    "undeclared": "nothing/here",
}
QUIET = {"open": "open/quiet", "readers": "readers/quiet"}
"""The same kinds, where nothing is said; and another order of theirs."""
ROOMS = {
    "room": "rooms/open",  # everybody may send
    "members": "async-rooms/closed",  # whoever is signed in
    "staff room": "rooms/closed",
}
"""Topics that take messages."""

# -- who -------------------------------------------------------------------------------------------

Way = Literal["session", "token", "ticket", "ticket of the token", "ticket for open", "nobody"]


@dataclass(frozen=True)
class Role:
    """Somebody, what they have got, and what they may do with it."""

    way: Way
    reads: str
    sends: str
    has: str = ""
    """Of: order, group, permission, object, staff."""


MINE = "open own readers guarded"
MEMBER = "room members"
ALL = "order group object"
VISITOR = Role("nobody", "open", "room")
ROLES = {
    "visitor": VISITOR,
    "stranger": Role("session", "open", "room members"),
    "customer": Role("session", "open own", "room members", "order"),
    "reader by group": Role("session", "open readers", "room members", "group"),
    "reader": Role("session", "open readers", "room members", "permission"),
    "guardian": Role("session", "open guarded", "room members", "object"),
    "staff": Role("session", "open own foreign", "room members staff room", "staff"),
    "by session": Role("session", MINE, MEMBER, ALL),
    "by token": Role("token", MINE, MEMBER, ALL),
    "by ticket": Role("ticket", MINE, MEMBER, ALL),
    "by ticket of the token": Role("ticket of the token", MINE, MEMBER, ALL),
    "by a ticket for one topic": Role("ticket for open", "open", "", ALL),
}

# -- what happens to them --------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Something that takes rights away from somebody who had them all."""

    source: str
    """What another process runs; ``user``, ``group``, ``orders`` and ``facts`` are known there. Empty:
    they sign out themselves, at the other server."""
    lost: str
    """The topic that is no longer theirs (its code is ``revoked``), or the code that ends everything."""
    way: Way = "session"
    has: str = ALL
    reads: str = "open"
    sends: str = "room"
    """What they may do afterwards, with what they have in hand."""
    status: int = 0
    """What every request is refused with afterwards, as a whole."""
    only: str = ""
    """The transport that is ended; empty: all."""


EVENTS = {
    "nothing": Event("pass", "", reads=MINE, sends=MEMBER),
    "signed out": Event("", "signed-out"),
    "signed out, with a ticket": Event("", "signed-out", way="ticket", status=401),
    "password": Event("user.set_password('new'); user.save()", "signed-out"),
    "dismissed": Event("user.is_active = False; user.save()", "signed-out"),
    "dismissed, with a token": Event(
        "user.is_active = False; user.save()", "signed-out", way="token", status=401
    ),
    # Their orders are not to go with them: that would be told.
    "deleted": Event("orders.update(customer=facts['bystander']); user.delete()", "signed-out"),
    "token deleted": Event("user.auth_token.delete()", "signed-out", way="token", status=401),
    "token deleted, with its ticket": Event(
        "user.auth_token.delete()", "signed-out", way="ticket of the token", status=401
    ),
    "left the group": Event(
        "user.groups.clear()", "readers", reads="open own guarded", sends=MEMBER
    ),
    "put out of the group": Event(
        "group.user_set.remove(user)", "readers", reads="open own guarded", sends=MEMBER
    ),
    "the group may no longer": Event(
        "group.permissions.clear()", "readers", reads="open own guarded", sends=MEMBER
    ),
    "the group is no more": Event(
        "group.delete()", "readers", reads="open own guarded", sends=MEMBER
    ),
    "permission": Event(
        "user.user_permissions.clear()",
        "readers",
        has="order permission object",
        reads="open own guarded",
        sends=MEMBER,
    ),
    "permission on the object": Event(
        "for order in orders: remove_perm('testapp.view_order', user, order)\nrecheck(user=user)",
        "guarded",
        reads="open own readers",
        sends=MEMBER,
    ),
    "the order is another's": Event(
        "orders.update(customer=facts['bystander'])\n"
        "for order in orders: recheck(topic=f'orders/{order.pk}')",
        "own",
        reads="open readers guarded",
        sends=MEMBER,
    ),
    "disconnected": Event("disconnect(user=user)", "disconnected", reads=MINE, sends=MEMBER),
    "session disconnected": Event(
        "disconnect(session=facts['session'])", "disconnected", reads=MINE, sends=MEMBER
    ),
    "connection disconnected": Event(
        "disconnect(connection=facts['connection'])",
        "disconnected",
        only="stream",
        reads=MINE,
        sends=MEMBER,
    ),
    "topic disconnected": Event(
        "for order in orders: disconnect(topic=f'orders/{order.pk}')",
        "disconnected",
        reads=MINE,
        sends=MEMBER,
    ),
}
