"""``path("chat/", include("django_live.chat.urls"))``."""

from __future__ import annotations

from django.urls import path

from .views import acting, files, pages

app_name = "live_chat"

urlpatterns = [
    path("", pages.room_list, name="rooms"),
    path("new/", acting.new, name="new"),
    path("direct/<str:user>/", acting.direct, name="direct"),
    path("<int:room>/", pages.room_page, name="room"),
    path("<int:room>/messages/", pages.messages, name="messages"),
    path("<int:room>/search/", pages.search_page, name="search"),
    path("<int:room>/members/", pages.member_page, name="members"),
    path("<int:room>/send/", acting.send, name="send"),
    path("<int:room>/act/", acting.act, name="act"),
    path("<int:room>/join/", acting.join, name="join"),
    path("<int:room>/leave/", acting.leave, name="leave"),
    path("<int:room>/moderate/", acting.moderate, name="moderate"),
    path("<int:room>/upload/", files.upload, name="upload"),
    path("message/<int:message>/edit/", acting.edit, name="edit"),
    path("file/<uuid:file>/", files.download, name="file"),
]
