"""A site that has no addresses."""

urlpatterns: list[object] = []
