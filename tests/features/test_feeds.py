"""Feeds: pages that begin at a place, what each viewer may see, and saves that are told by themselves."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.utils import timezone, translation

from django_live import Topic, Viewer
from django_live.core.topics import registry
from django_live.exceptions import InvalidTopic
from django_live.features.changes import Changes
from django_live.features.feeds import Feed
from tests.testapp.models import Document, Order

if TYPE_CHECKING:
    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def feeds() -> Iterator[SimpleNamespace]:
    """`orders`: by key, three on a page, a customer's own; `files`: by a size that many have in common."""
    known = set(Changes._declared)
    with registry.isolated():

        class Orders(Feed):
            pattern = "feeds/orders"
            model = Order
            size = 3

            def can_subscribe(self, viewer: Viewer) -> bool:
                return bool(viewer.user.is_authenticated)

            def items(self, viewer: Viewer) -> Any:
                return Order.objects.visible_to(viewer.user)

        class Files(Feed):
            pattern = "feeds/files/<int:owner>"
            model = Document
            newest_by = "size"
            size = 3

            def can_subscribe(self, viewer: Viewer) -> bool:
                return bool(viewer.user.pk == self.owner)  # type: ignore[attr-defined]

            def items(self, viewer: Viewer) -> Any:
                return Document.objects.filter(owner=self.owner)  # type: ignore[attr-defined]

            @classmethod
            def shows(cls, item: Document) -> list[Topic]:
                return [cls(owner=item.owner_id)]

        yield SimpleNamespace(orders=Orders(), Files=Files)
    for uid in set(Changes._declared) - known:
        Changes._declared.pop(uid).disconnect()


def placed(customer: User, count: int) -> list[int]:
    return [Order.objects.create(customer=customer).pk for _ in range(count)]


def pks(page: Any) -> list[Any]:
    return [item.pk for item in page.items]


# -- what it hears ---------------------------------------------------------------------------------


def test_saves_are_told_by_themselves_and_nothing_is_said_of_the_item(
    ann: User, feeds: Any, heard_whole: Heard
) -> None:
    order = Order.objects.create(customer=ann)
    order.status = "paid"
    order.save()
    order.delete()
    told = [("created", None), ("updated", None), ("deleted", None)]
    assert heard_whole(feeds.orders) == told


def test_an_item_that_goes_from_one_feed_to_another_is_told_to_both(
    ann: User, bob: User, feeds: Any, heard: Heard
) -> None:
    document = Document.objects.create(code="a", owner=ann)
    document.owner = bob
    document.save()
    assert [type for type, _ in heard(feeds.Files(owner=ann.pk))] == ["created", "deleted"]
    assert [type for type, _ in heard(feeds.Files(owner=bob.pk))] == ["created"]


# -- pages -----------------------------------------------------------------------------------------


def test_what_comes_meanwhile_neither_repeats_nor_hides_an_item(ann: User, feeds: Any) -> None:
    first = placed(ann, 5)
    viewer = Viewer(user=ann)
    page = feeds.orders.page(viewer)
    assert pks(page) == first[:1:-1]
    assert page.new == 0
    newer = placed(ann, 4)
    Order.objects.get(pk=first[2]).delete()  # the one whose place it is
    older = feeds.orders.page(viewer, before=page.older)
    assert pks(older) == [first[1], first[0]]
    assert older.older == ""
    assert pks(feeds.orders.page(viewer)) == newer[:0:-1]


def test_who_reads_further_down_keeps_it_and_newer_items_are_counted(ann: User, feeds: Any) -> None:
    placed(ann, 5)
    viewer = Viewer(user=ann)
    page = feeds.orders.page(viewer)
    placed(ann, 12)
    again = feeds.orders.page(viewer, top=page.first)
    assert (pks(again), again.new) == (pks(page), 12)
    Order.objects.filter(pk=page.items[0].pk).delete()
    again = feeds.orders.page(viewer, top=page.first)
    assert pks(again)[:2] == pks(page)[1:]
    assert again.new == 12
    Order.objects.bulk_create(Order(customer=ann) for _ in range(200))
    assert feeds.orders.page(viewer, top=page.first).new == 100, (
        "enough to know that there are more"
    )


def test_each_viewer_sees_and_counts_their_own(ann: User, bob: User, feeds: Any) -> None:
    anns = placed(ann, 2)
    page = feeds.orders.page(Viewer(user=ann))
    placed(bob, 7)
    again = feeds.orders.page(Viewer(user=ann), top=page.first)
    assert (pks(again), again.new) == (anns[::-1], 0)
    assert len(pks(feeds.orders.page(Viewer(user=bob)))) == 3
    assert pks(feeds.orders.page(Viewer(user=AnonymousUser()))) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_to_the_end_meets_each_item_that_stood_all_the_time_once(
    ann: User, feeds: Any, seed: int
) -> None:
    """Sizes that many have in common, keys that are text, and others that write all the while."""
    dice = random.Random(seed)
    feed, viewer = feeds.Files(owner=ann.pk), Viewer(user=ann)
    Document.objects.bulk_create(
        Document(code=f"d{n}", owner=ann, size=dice.randint(0, 4)) for n in range(20)
    )
    gone, met, before = set(), [], ""
    while True:
        page = feed.page(viewer, before=before)
        met += pks(page)
        if not page.older:
            break
        before = page.older
        Document.objects.create(code=f"new{len(met)}", owner=ann, size=dice.randint(0, 4))
        victim = f"d{dice.randrange(20)}"
        Document.objects.filter(code=victim).delete()
        gone.add(victim)
    assert len(met) == len(set(met)), "an item twice"
    assert {f"d{n}" for n in range(20)} - gone <= set(met), "an item left out"


@pytest.mark.parametrize("place", ["x", "WyIxIiwiMSJd:forged", "\x00", "9" * 400, "é:"])
def test_a_place_that_is_none_is_the_newest_page(ann: User, feeds: Any, place: str) -> None:
    newest = pks(feeds.orders.page(Viewer(user=ann))) + placed(ann, 4)[:0:-1]
    for asked in ({"before": place}, {"top": place}):
        assert pks(feeds.orders.page(Viewer(user=ann), **asked)) == newest
    foreign = feeds.Files(owner=ann.pk)._place(Document.objects.create(code="a", owner=ann))
    assert pks(feeds.orders.page(Viewer(user=ann), before=foreign)) == newest


# -- declarations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, "needs a model"),
        ({"model": Order, "size": 0}, "size ≥ 1"),
        ({"model": Document, "newest_by": "day"}, "may be empty"),
        ({"model": Order, "pattern": "feeds/<int:page>"}, "names a part 'page'"),
    ],
)
def test_a_feed_that_cannot_be_is_refused(members: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidTopic, match=fault):
        type("Wrong", (Feed,), {"pattern": "feeds/wrong", **members})


# -- the tag ---------------------------------------------------------------------------------------

FEED = (
    "{% load live_feeds %}{% live_feed feed id='f' as order %}<li>{{ order.pk }}</li>"
    "{% empty %}<li>nothing</li>{% endlive_feed %}"
)


def rendered(source: str, user: User, address: str = "/", wish: str = "", **context: Any) -> str:
    request = RequestFactory().get(address)
    if wish:
        request = RequestFactory().get(address, headers={"X-Live-Refresh": f"f={quote(wish)}"})
    request.user = user
    return str(Template(source).render(Context({"request": request, **context})))


def test_a_page_has_keys_a_place_and_a_link_to_older_items(ann: User, feeds: Any) -> None:
    order = placed(ann, 4)
    html = rendered(FEED, ann, "/?q=a&q=%26", feed=feeds.orders)
    assert re.findall(r'<li data-live-key="order-(\d+)">', html) == [str(pk) for pk in order[:0:-1]]
    assert 'topics="feeds%2Forders" data-cursor="' in html
    assert "live-feeds.js" in html
    [older] = re.findall(r'<a href="([^"]*)" rel="next">', html)
    query = parse_qs(older.replace("&amp;", "&").removeprefix("?"))
    assert query["q"] == ["a", "&"]
    html = rendered(FEED, ann, f"/?before={quote(query['before'][0])}", feed=feeds.orders)
    assert f'<li data-live-key="order-{order[0]}">{order[0]}</li>' in html
    assert '<a href="/">Newest</a>' in html
    assert 'rel="next"' not in html


def test_what_the_reader_keeps_stands_under_a_link_to_what_is_new(ann: User, feeds: Any) -> None:
    order = placed(ann, 3)
    html = rendered(FEED, ann, feed=feeds.orders)
    [first] = re.findall(r'data-first="([^"]*)"', html)
    placed(ann, 2)
    html = rendered(FEED, ann, wish=unquote(first), feed=feeds.orders)
    assert 'role="status"><a href="/" data-part="show">2 new</a></p>' in html
    assert f'data-first="{first}"' in html
    assert f"order-{order[-1]}" in html
    Order.objects.bulk_create(Order(customer=ann) for _ in range(100))
    with translation.override("de"):
        html = rendered(FEED, ann, wish=unquote(first), feed=feeds.orders)
    assert "Mehr als 99 neue" in html


def test_an_empty_feed_says_so(ann: User, feeds: Any) -> None:
    html = rendered(FEED, ann, feed=feeds.orders)
    assert "<li>nothing</li>" in html
    assert 'data-first=""' in html
    assert "<nav" not in html


def test_a_feed_is_shown_to_those_who_may_subscribe_to_it(ann: User, bob: User, feeds: Any) -> None:
    Document.objects.create(code="secret", owner=ann)
    feed = feeds.Files(owner=ann.pk)
    assert "<li data-live-key" in rendered(FEED, ann, feed=feed)
    html = rendered(FEED, bob, feed=feed)
    assert "secret" not in html
    assert "<li>nothing</li>" in html
    assert 'id="f"' in html, "what was shown before goes, when the part is fetched again"


def test_a_page_with_a_ticket_that_is_no_good_has_an_empty_feed(ann: User, feeds: Any) -> None:
    placed(ann, 4)
    html = rendered(FEED, ann, "/?ticket=no-ticket", feed=feeds.orders)
    assert "<li>nothing</li>" in html
    assert "data-live-key" not in html


def test_a_time_is_readable_without_scripts(ann: User) -> None:
    moment = timezone.now() - timedelta(minutes=5)
    html = rendered("{% load live_feeds %}{% live_ago moment %}", ann, moment=moment)
    [said, shown] = re.findall(r'<live-ago><time datetime="([^"]+)">([^<]+)</time>', html)[0]
    assert datetime.fromisoformat(said) == moment
    assert str(moment.year) in shown


@pytest.mark.parametrize(
    "tag", ["live_feed feed", "live_feed as order", "live_feed feed size=3 as order"]
)
def test_a_feed_that_is_written_wrongly_is_a_syntax_error(tag: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="live_feed"):
        Template("{% load live_feeds %}{% " + tag + " %}{% endlive_feed %}")


def test_what_is_no_feed_or_has_no_viewer_is_an_error(ann: User, feeds: Any) -> None:
    with pytest.raises(TemplateSyntaxError, match="shows a Feed"):
        rendered(FEED, ann, feed="open/a")
    with pytest.raises(TemplateSyntaxError, match="has no request"):
        Template(FEED).render(Context({"feed": feeds.orders}))
