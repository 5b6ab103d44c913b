"""The shop's back office. Saving here is all it takes: the pages of those who look at an order follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from example_project.orders.demo import next_order_number
from example_project.orders.models import Order, OrderLine

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.forms import ModelForm
    from django.http import HttpRequest


class OrderLineInline(admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs only
    model = OrderLine
    extra = 0


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    list_display = ("number", "customer", "status", "total", "placed_at", "updated_at")
    list_editable = ("status",)
    list_filter = ("status", "placed_at")
    list_select_related = ("customer",)
    search_fields = ("number", "customer__username", "customer__first_name", "customer__last_name")
    date_hierarchy = "placed_at"
    readonly_fields = ("total", "updated_at")
    inlines = (OrderLineInline,)
    actions = ("mark_as_shipped",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"number": next_order_number(), **super().get_changeform_initial_data(request)}

    def save_related(
        self, request: HttpRequest, form: ModelForm[Order], formsets: Any, change: bool
    ) -> None:
        """The lines are saved after the order: only now is its total known."""
        super().save_related(request, form, formsets, change)
        order = form.instance
        total = order.total_of_lines()
        if order.total != total:
            order.total = total
            order.save(update_fields=["total", "updated_at"])

    @admin.action(description=_("Mark selected orders as shipped"), permissions=["change"])
    def mark_as_shipped(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Saves each order by itself: ``queryset.update()`` sends no signals, so nobody would hear of it."""
        shipped = 0
        for order in queryset.exclude(status__in=[Order.Status.SHIPPED, *Order.FINISHED]):
            order.status = Order.Status.SHIPPED
            order.save(update_fields=["status", "updated_at"])
            shipped += 1
        self.message_user(
            request,
            ngettext(
                "%(count)d order was marked as shipped.",
                "%(count)d orders were marked as shipped.",
                shipped,
            )
            % {"count": shipped},
            messages.SUCCESS,
        )
