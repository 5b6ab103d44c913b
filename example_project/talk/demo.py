"""Rooms and a roaster to look at."""

from __future__ import annotations

from django.contrib.auth.models import User

from django_live.chat import create_room, send
from django_live.chat.models import Membership, Room
from example_project.orders.demo import ANNA, BERT, STAFF
from example_project.talk.models import Roaster

SAID = (
    (STAFF, "Good morning! The new Guji is in. https://example.com/guji"),
    (ANNA, "Lovely. Is there a tasting on Friday?"),
    (BERT, "If there is cake, @staff, I am in."),
)


def ensure_rooms() -> int:
    """Make what is missing; how many rooms were made."""
    Roaster.objects.get_or_create(name="Old Betty")
    people = {one: User.objects.get(username=one.username) for one in (STAFF, ANNA, BERT)}
    made = 0
    if not Room.objects.filter(name="Coffee talk").exists():
        room = create_room(
            "Coffee talk", kind=Room.Kind.PUBLIC, by=people[STAFF], members=people.values()
        )
        for number, (one, text) in enumerate(SAID):
            send(room, people[one], text, client_id=f"demo-{number:04}")
        Membership.objects.filter(room=room).update(read_number=len(SAID))
        made += 1
    if not Room.objects.filter(name="Roastery").exists():
        create_room("Roastery", by=people[STAFF], members=[people[ANNA]])
        made += 1
    return made
