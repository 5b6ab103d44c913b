"""Changes of models that have kin: proxies, and models that inherit from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test.utils import isolate_apps

from django_live.features.changes import Changes
from tests.testapp.models import Note, Order, Place, Restaurant, UrgentOrder

if TYPE_CHECKING:
    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


class PlaceChanges(Changes[Place]):
    """Tells of every place under the street that it is in."""

    model = Place
    fields = ["name"]

    def topics(self, instance: Place) -> list[str]:
        return [f"open/street-{instance.street}"]


class RestaurantChanges(Changes[Restaurant]):
    """Tells of restaurants under their kitchens."""

    model = Restaurant
    fields = ["name", "kitchen"]

    def topics(self, instance: Restaurant) -> list[str]:
        return [f"open/kitchen-{instance.kitchen}"]


class UrgentChanges(Changes[UrgentOrder]):
    """Tells of orders, through what only the proxy knows."""

    model = UrgentOrder

    def topics(self, instance: UrgentOrder) -> list[str]:
        return [f"open/urgent-{instance.customer_id}"] if instance.is_urgent() else []


DECLARED = (PlaceChanges, RestaurantChanges, UrgentChanges)


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """These declarations hold for this module only."""
    for one in DECLARED:
        name = f"{one.__module__}.{one.__qualname__}"
        Changes._declared.setdefault(name, one()).connect()
    yield
    for one in DECLARED:
        Changes._declared.pop(f"{one.__module__}.{one.__qualname__}").disconnect()


for _one in DECLARED:
    Changes._declared[f"{_one.__module__}.{_one.__qualname__}"].disconnect()


@pytest.fixture
def restaurant(heard: Heard) -> Restaurant:
    pk = Restaurant.objects.create(name="Luigi", street="elm", kitchen="italian").pk
    heard("open/street-elm")
    heard("open/kitchen-italian")
    return Restaurant.objects.get(pk=pk)


# -- models that inherit ---------------------------------------------------------------------------


def test_a_new_object_of_an_inheriting_model_is_told_once_to_each(heard: Heard) -> None:
    one = Restaurant.objects.create(name="Luigi", street="elm", kitchen="italian")
    assert heard("open/street-elm") == [("created", {"pk": one.pk, "name": "Luigi"})]
    assert heard("open/kitchen-italian") == [
        ("created", {"pk": one.pk, "name": "Luigi", "kitchen": "italian"})
    ]


def test_an_inheriting_object_that_moves_is_told_of_as_the_parent(
    restaurant: Restaurant, heard: Heard
) -> None:
    restaurant.street = "oak"
    restaurant.save()
    assert heard("open/street-elm") == [("deleted", {"pk": restaurant.pk})]
    assert heard("open/street-oak") == [("created", {"pk": restaurant.pk, "name": "Luigi"})]
    assert [type for type, _ in heard("open/kitchen-italian")] == ["updated"]


def test_parent_and_child_saved_in_one_transaction_are_one_object(
    restaurant: Restaurant, heard: Heard
) -> None:
    with transaction.atomic():
        restaurant.name = "Mario"
        restaurant.save()
        place = Place.objects.get(pk=restaurant.pk)
        place.name = "Maria"
        place.save()
    assert heard("open/street-elm") == [("updated", {"pk": restaurant.pk, "name": "Maria"})]


@pytest.mark.parametrize("how", ["object", "queryset", "parent", "parents queryset"])
def test_a_deleted_inheriting_object_is_told_once_to_each(
    how: str, restaurant: Restaurant, heard: Heard
) -> None:
    pk = restaurant.pk
    if how == "object":
        restaurant.street = "never saved"
        restaurant.delete()
    elif how == "queryset":
        Restaurant.objects.filter(pk=pk).delete()
    elif how == "parent":
        Place.objects.get(pk=pk).delete()
    else:
        Place.objects.filter(pk=pk).delete()
    assert heard("open/street-elm") == [("deleted", {"pk": pk})]
    assert heard("open/kitchen-italian") == [("deleted", {"pk": pk})]
    assert not Place.objects.exists()


def test_a_place_whose_restaurant_is_closed_is_still_there(
    restaurant: Restaurant, heard: Heard
) -> None:
    pk = restaurant.pk
    restaurant.delete(keep_parents=True)
    assert Place.objects.filter(pk=pk).exists()
    assert heard("open/street-elm") == []
    assert heard("open/kitchen-italian") == [("deleted", {"pk": pk})]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_place_that_becomes_a_restaurant_is_updated_as_a_place(
    in_transaction: bool, heard: Heard
) -> None:
    place = Place.objects.create(name="Luigi", street="elm")
    heard("open/street-elm")
    new = Restaurant(place_ptr=place, name="Mario", street="elm", kitchen="greek")
    if in_transaction:
        with transaction.atomic():
            new.save()
    else:
        new.save()
    assert heard("open/street-elm") == [("updated", {"pk": place.pk, "name": "Mario"})]
    assert [type for type, _ in heard("open/kitchen-greek")] == ["created"]


# -- proxies ---------------------------------------------------------------------------------------


def test_an_object_that_is_saved_as_a_proxy_is_told_of(ann: User, heard: Heard) -> None:
    order = UrgentOrder.objects.create(customer=ann, status="new")
    order.status = "urgent"
    order.save()
    pk = order.pk
    order.delete()
    assert [type for type, _ in heard(f"orders/{pk}")] == ["created", "updated", "deleted"]


@pytest.mark.parametrize("model", [Order, UrgentOrder])
def test_changes_of_a_proxy_hear_every_object_of_its_table_as_a_proxy(
    model: type[Order], ann: User, heard: Heard
) -> None:
    order = model.objects.create(customer=ann, status="new")
    assert heard(f"open/urgent-{ann.pk}") == []
    order.status = "urgent"
    order.save()
    assert heard(f"open/urgent-{ann.pk}") == [("created", {"pk": order.pk})]
    pk = order.pk
    model.objects.filter(pk=pk).delete()
    assert heard(f"open/urgent-{ann.pk}") == [("deleted", {"pk": pk})]


def test_the_same_row_saved_as_both_is_one_object(ann: User, heard: Heard) -> None:
    order = Order.objects.create(customer=ann)
    heard(f"orders/{order.pk}")
    with transaction.atomic():
        order.save()
        proxy = UrgentOrder.objects.get(pk=order.pk)
        proxy.status = "urgent"
        proxy.save()
    assert [data["status"] for _, data in heard(f"orders/{order.pk}")] == ["urgent"]


def test_a_proxy_that_is_defined_after_the_declaration_is_heard(heard: Heard) -> None:
    with isolate_apps("tests.testapp"):

        class LateNote(Note):
            class Meta:
                proxy = True
                app_label = "testapp"

    note = LateNote.objects.create(text="late")
    assert heard(f"notes/{note.pk}") == [("created", {"pk": str(note.pk), "text": "late"})]
