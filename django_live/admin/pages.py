"""What the pages have in common: a place in the admin, permissions, the log of what was done.

They stand on models without rows. Must keep true: a page is there for whoever has its permission, and
for nobody else; what is done is in the admin's own log; a store or a process that does not answer is a
sentence on the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.translation import gettext as _

from ..core import survey
from ..exceptions import StoreError
from ..features.operations import OperationsTopic

UNREACHABLE = (DatabaseError, StoreError, ImproperlyConfigured)


class LivePage(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """One page instead of a list of rows."""

    permission: ClassVar[str]
    """Whoever has it may see the page: a codename of the model's."""
    template: ClassVar[str]
    """A page for what is asked for and shown once."""
    part: ClassVar[str] = ""
    """What of it is shown again and again; empty: nothing."""

    def get_urls(self) -> list[URLPattern]:
        # A survey inside of the request's transaction would be heard after it.
        view = self.admin_site.admin_view(self.changelist_view)
        for alias in settings.DATABASES:
            view = transaction.non_atomic_requests(using=alias)(view)
        return [path("", view, name=self._url_name)]

    @property
    def _url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_changelist"

    @property
    def address(self) -> str:
        return reverse(f"{self.admin_site.name}:{self._url_name}")

    # -- who may -----------------------------------------------------------------------------------

    def may(self, request: HttpRequest, codename: str) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may(request, self.permission)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, self.permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # -- the page ----------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            if request.method == "POST":
                answer = self.act(request)
                if answer is not None:
                    return answer
            shown = self.show(request)
        except UNREACHABLE as error:
            shown = {"unreachable": f"{type(error).__name__}: {error}"}
        return self.page(request, {**shown, **(extra_context or {})})

    def act(self, request: HttpRequest) -> HttpResponse | None:
        """Do what a form asks for. Raises ``PermissionDenied``."""
        raise PermissionDenied

    def show(self, request: HttpRequest) -> dict[str, Any]:
        """What the template gets."""
        raise NotImplementedError

    def page(self, request: HttpRequest, shown: dict[str, Any]) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(self.opts.verbose_name_plural).capitalize(),
            "address": self.address,
            "is_live": bool(self.part) and _has_stream(),
            "part_template": self.part,
            "operations": OperationsTopic(),
            **shown,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.template, context)

    # -- what was done -----------------------------------------------------------------------------

    def note(
        self,
        request: HttpRequest,
        done: Iterable[tuple[str, str]],
        sentence: str,
        flag: int = CHANGE,
    ) -> None:
        """Put it into the admin's log, once for each thing, which has an id and a name."""
        content_type = ContentType.objects.get_for_model(self.model, for_concrete_model=False)
        LogEntry.objects.bulk_create(
            LogEntry(
                user_id=str(request.user.pk),
                content_type_id=content_type.pk,
                object_id=id,
                object_repr=name[:200],
                action_flag=flag,
                change_message=sentence,
            )
            for id, name in done
        )


def _has_stream() -> bool:
    """Whether the page can be live: the site has an address for the stream."""
    try:
        reverse("django_live:events")
    except NoReverseMatch:
        return False
    return True


def names_of(keys: Iterable[str | None]) -> dict[str, str]:
    """The login names of these users, by primary key, in one query."""
    model = get_user_model()
    wanted = {key for key in keys if key is not None}
    if not wanted:
        return {}
    found = model._default_manager.filter(pk__in=wanted)
    return {str(pk): str(name) for pk, name in found.values_list("pk", model.USERNAME_FIELD)}


def users_like(text: str, most: int = 100) -> list[str]:
    """Primary keys of users whose login name has this text."""
    model = get_user_model()
    found = model._default_manager.filter(**{f"{model.USERNAME_FIELD}__icontains": text})
    return [str(pk) for pk in found.values_list("pk", flat=True)[:most]]


def missing(found: survey.Survey) -> list[str]:
    """Who did not answer, for people."""
    return [_("%(host)s, process %(pid)s") % {"host": p.host, "pid": p.pid} for p in found.missing]


def label(found: survey.Survey, id: str) -> str:
    process = found.processes.get(id)
    return f"{process.host}:{process.pid}" if process else id


def chosen(request: HttpRequest, most: int = 1000) -> list[str]:
    """The ids that were ticked."""
    return request.POST.getlist("id")[:most]
