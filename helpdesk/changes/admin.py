"""What every page of the admin has in common. Each app's `admin.py` builds on it."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helpdesk.changes.models import SoftDeleteModel
from helpdesk.changes.unit import unit

# Nobody leafs through more than this; counting further would cost more the larger the table grows.
MAX_COUNT = 10_000
# Objects named on the page that asks whether they may be deleted.
MAX_NAMED = 100


class CappedPaginator(Paginator):
    """Counts up to MAX_COUNT rows and no further; `capped` says that there are more."""

    @cached_property
    def _counted(self) -> int:
        rows = self.object_list
        return rows.order_by()[: MAX_COUNT + 1].count() if isinstance(rows, QuerySet) else len(rows)

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNT)

    @property
    def capped(self) -> bool:
        return self._counted > MAX_COUNT


class VisibleAdmin(admin.ModelAdmin):
    """A ModelAdmin that shows what `visible_to` shows, saves in one unit of work and deletes softly.

    The number of queries of its list is the same however long the list is.
    """

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # a count for every filter
    list_per_page = 50
    list_max_show_all = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return self.model._default_manager.visible_to(request.user).order_by(*self.get_ordering(request))

    def get_ordering(self, request: HttpRequest) -> Iterable[str]:
        return self.ordering or self.model._meta.ordering

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Fields, tags and whatever else the form changes are told as one change.
        with unit() if request.method == "POST" else nullcontext():
            return super().changeform_view(request, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        if request.POST.get("select_across") == "1":
            # "All" on the page means all that were counted.
            queryset = queryset.filter(pk__in=queryset.values("pk")[:MAX_COUNT])
        return super().response_action(request, queryset)

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> tuple[list, dict, set, list]:
        if not issubclass(self.model, SoftDeleteModel):
            return super().get_deleted_objects(objs, request)
        # Nothing else goes with it: the row stays, and so does what refers to it.
        objects = list(objs)
        names = [str(instance) for instance in objects[:MAX_NAMED]]
        if len(objects) > MAX_NAMED:
            names.append(f"… and {len(objects) - MAX_NAMED:,} more")
        return names, {self.model._meta.verbose_name_plural: len(objects)}, set(), []


class ReadOnlyAdmin(VisibleAdmin):
    """For what only the system writes: to be looked at and searched."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class FixedChoicesFilter(admin.SimpleListFilter):
    """A filter over known values, so that no query has to collect those that occur."""

    choices_known: ClassVar[Iterable[tuple[str, str]]] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.choices_known)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        known = {value for value, _label in self.choices_known}
        if self.value() is None:
            return queryset
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() in known else queryset.none()


def badge(kind: str, value: str, label: str) -> SafeString:
    """A word in the colour of its meaning; the style sheet has one rule for each kind and value."""
    return format_html('<span class="badge {}-{}">{}</span>', kind, value, label)


def preformatted(text: str) -> SafeString | str:
    """Text as it came, line for line."""
    return format_html('<pre class="preformatted">{}</pre>', text) if text else "–"
