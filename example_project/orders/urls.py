"""The addresses of the order board."""

from django.urls import path

from example_project.orders import views

app_name = "orders"

urlpatterns = [
    path("", views.board, name="board"),
    path("orders/", views.OrderList.as_view(), name="list"),
    path("orders/<int:pk>/", views.detail, name="detail"),
    path("orders/<int:pk>/note/", views.change_note, name="change-note"),
    path("orders/<int:pk>/status/", views.change_status, name="change-status"),
]
