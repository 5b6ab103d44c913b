"""What a browser does with an order: look at it, and change it."""

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from tests.testapp.live import CustomerTopic
from tests.testapp.models import Order


def home(request: HttpRequest) -> HttpResponse:
    """A page for everybody; it says who is logged in."""
    return HttpResponse(f"user: {request.user.get_username()}", content_type="text/plain")


@login_required
def order_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One order, to those who may see it."""
    order = get_object_or_404(Order.objects.visible_to(request.user), pk=pk)
    return render(request, "testapp/order.html", {"order": order})


@login_required
def orders_of_customer(request: HttpRequest, pk: int) -> HttpResponse:
    """A live list of one customer's orders, to those who may see them."""
    orders = Order.objects.visible_to(request.user).filter(customer_id=pk).order_by("-total", "pk")
    return render(request, "testapp/orders.html", {"orders": orders, "topic": CustomerTopic(pk=pk)})


@login_required
@require_POST
def change_order(request: HttpRequest, pk: int) -> HttpResponse:
    """Set the posted fields (`status`, `total`) and save: in one transaction, as sites do."""
    with transaction.atomic():
        visible = Order.objects.visible_to(request.user).select_for_update()
        order = get_object_or_404(visible, pk=pk)
        for name in ("status", "total"):
            if name in request.POST:
                setattr(order, name, request.POST[name])
        order.save()
    return HttpResponse(status=204)
