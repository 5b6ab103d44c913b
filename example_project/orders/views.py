"""The pages: plain Django views. They would read the same if nothing were live, but for the topic in the context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django.views.generic import ListView

from example_project.orders.demo import DEMO_LOGINS
from example_project.orders.live import BoardTopic, CustomerTopic, OrderTopic
from example_project.orders.models import Order
from example_project.orders.permissions import may_change_orders, may_see_all_orders
from example_project.orders.timeline import timeline_of

if TYPE_CHECKING:
    from django.core.paginator import Page, Paginator
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

FINISHED_ORDERS_SHOWN = 8
ORDERS_ON_A_PAGE = 10


@require_GET
@login_required
def board(request: HttpRequest) -> HttpResponse:
    """All orders by status for staff; their own orders for a customer."""
    visible = Order.objects.visible_to(request.user)
    open_orders = list(visible.open().with_contents())
    finished = visible.finished()
    context: dict[str, Any] = {
        "open_orders": open_orders,
        "open_total": sum(order.total for order in open_orders),
        "finished_orders": finished.with_contents().order_by("-updated_at")[:FINISHED_ORDERS_SHOWN],
        "finished_count": finished.count(),
    }
    if not may_see_all_orders(request.user):
        return render(
            request,
            "orders/my_orders.html",
            {**context, "topic": CustomerTopic(pk=request.user.pk)},
        )
    context["lanes"] = [
        {"status": status, "orders": [order for order in open_orders if order.status == status]}
        for status in Order.PATH
        if status not in Order.FINISHED
    ]
    context["may_change"] = may_change_orders(request.user)
    return render(request, "orders/board.html", {**context, "topic": BoardTopic()})


class OrderList(LoginRequiredMixin, ListView):  # type: ignore[type-arg]  # generic in the stubs only
    """The orders that the viewer may see, page by page, the one that changed last on top."""

    template_name = "orders/order_list.html"
    paginate_by = ORDERS_ON_A_PAGE
    http_method_names = ["get", "head", "options"]

    def get_queryset(self) -> QuerySet[Order]:
        orders = Order.objects.visible_to(self.request.user).select_related("customer")
        if (status := self.chosen_status()) is not None:
            orders = orders.filter(status=status)
        return orders.order_by("-updated_at", "-pk")

    def chosen_status(self) -> Order.Status | None:
        chosen = self.request.GET.get("status")
        return Order.Status(chosen) if chosen in Order.Status.values else None

    def paginate_queryset(
        self, queryset: Any, page_size: int
    ) -> tuple[Paginator[Order], Page[Order], Any, bool]:
        """The last page instead of "not found": a page that is open may be gone when orders leave the list."""
        paginator = self.get_paginator(queryset, page_size)
        page = paginator.get_page(self.request.GET.get("page"))
        return paginator, page, page.object_list, page.has_other_pages()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = self.request.user
        sees_all = may_see_all_orders(user)
        return super().get_context_data(
            topic=BoardTopic() if sees_all else CustomerTopic(pk=user.pk),
            sees_all=sees_all,
            may_change=may_change_orders(user),
            statuses=Order.Status,
            chosen_status=self.chosen_status(),
            **kwargs,
        )


@require_GET
@login_required
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One order with its timeline; the same "not found" for an order that is missing and one that is not yours."""
    order = get_object_or_404(Order.objects.visible_to(request.user).with_contents(), pk=pk)
    sees_all = may_see_all_orders(request.user)
    context = {
        "order": order,
        "timeline": timeline_of(order),
        "topic": OrderTopic(pk=order.pk),
        "other_orders_topic": BoardTopic() if sees_all else CustomerTopic(pk=order.customer_id),
        "sees_all": sees_all,
        "may_change": may_change_orders(request.user),
    }
    return render(request, "orders/detail.html", context)


@require_POST
@login_required
@permission_required("orders.change_order", raise_exception=True)
def change_status(request: HttpRequest, pk: int) -> HttpResponse:
    """Moves an order from the status that the page showed to the one that was asked for."""
    with transaction.atomic():
        order = get_object_or_404(Order.objects.visible_to(request.user).select_for_update(), pk=pk)
        wanted = request.POST.get("to", "")
        if order.status != request.POST.get("from"):
            # A colleague was faster: two clicks on "packed" must not ship the order.
            messages.info(
                request,
                _("%(order)s had changed meanwhile and is now: %(status)s")
                % {"order": order, "status": order.get_status_display()},
            )
        elif not order.is_finished and wanted in (order.next_status, Order.Status.CANCELLED):
            order.status = wanted
            order.save()
        else:
            messages.error(request, _("%(order)s cannot go there from here.") % {"order": order})
    return redirect(page_to_return_to(request))


@require_POST
@login_required
@permission_required("orders.change_order", raise_exception=True)
def change_note(request: HttpRequest, pk: int) -> HttpResponse:
    """Writes the order's note."""
    with transaction.atomic():
        order = get_object_or_404(Order.objects.visible_to(request.user).select_for_update(), pk=pk)
        order.note = request.POST.get("note", "").strip()
        order.save()
    return redirect(page_to_return_to(request))


def page_to_return_to(request: HttpRequest) -> str:
    """The page of this site that the form stood on, the board otherwise."""
    page = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        page, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return page
    return "orders:board"


class DemoLoginView(LoginView):
    """Django's login page that, while debugging, also tells the demo log-ins."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        if settings.DEBUG:
            usernames = [login.username for login in DEMO_LOGINS]
            known = set(
                User.objects.filter(username__in=usernames).values_list("username", flat=True)
            )
            context["shows_demo_logins"] = True
            context["demo_logins"] = [login for login in DEMO_LOGINS if login.username in known]
        return context
