"""The scripts of features in a page."""

from django.template import Context
from django.test import RequestFactory

from django_live.assets import feature_assets


def test_a_feature_comes_with_its_style_and_a_deferred_script() -> None:
    written = feature_assets(Context({"csp_nonce": "n0"}), "clock")
    assert '<link rel="stylesheet" href="/static/django_live/live-clock.css">' in written
    assert '<script src="/static/django_live/live-clock.js" defer nonce="n0"></script>' in written


def test_it_comes_once_in_an_answer() -> None:
    request = RequestFactory().get("/")
    assert feature_assets(Context({"request": request}), "clock")
    assert feature_assets(Context({"request": request}), "clock") == ""
    assert feature_assets(Context({"request": request}), "calendar")
    assert feature_assets(Context({"request": RequestFactory().get("/")}), "clock")


def test_a_feature_may_have_no_style() -> None:
    assert "stylesheet" not in feature_assets(Context(), "clock", style=False)
