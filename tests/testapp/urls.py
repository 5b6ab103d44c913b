"""The pages of the orders."""

from django.urls import path

from tests.testapp import views

urlpatterns = [
    path("", views.home, name="home"),
    path("orders/<int:pk>/", views.order_page, name="order"),
    path("customers/<int:pk>/orders/", views.orders_of_customer, name="orders-of-customer"),
    path("orders/<int:pk>/change/", views.change_order, name="change-order"),
]
