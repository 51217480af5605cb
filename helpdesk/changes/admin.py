"""What every page of the admin has in common. Each app's `admin.py` builds on it."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget, AutocompleteSelect, RelatedFieldWidgetWrapper
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from helpdesk.changes.text import BoundedTextField
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


class LinesField(forms.CharField):
    """Text of several lines. Browsers send CRLF; what is kept has plain line feeds, as the API keeps it."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")


class IdSelect(AutocompleteSelect):
    """Django's asks the database for the label of whatever was sent; what is no id would end in an error page."""

    def optgroups(self, name: str, value: Sequence[str], attrs: Any = None) -> list:
        return super().optgroups(name, [text for text in value if not text or _is_id(text)], attrs)


def _is_id(text: str) -> bool:
    try:
        UUID(str(text))
    except ValueError:
        return False
    return True


class ChangesForm(forms.ModelForm):
    """A form that saves only what was changed on the page.

    A page that has been open for a while does not put back what others have changed meanwhile: each field carries
    its first value along, hidden, and what still equals it is left as it is now.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = not self.instance._state.adding

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.instance._state.adding:
            for name in set(self.cleaned_data) - set(self.changed_data):
                self.cleaned_data[name] = getattr(self.instance, name)
        return cleaned


class VisibleAdmin(admin.ModelAdmin):
    """A ModelAdmin that shows what `visible_to` shows, saves in one unit of work and deletes softly.

    The number of queries of its list is the same however long the list is.
    """

    form = ChangesForm
    formfield_overrides = {BoundedTextField: {"form_class": LinesField, "widget": AdminTextareaWidget}}
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # a count for every filter
    list_per_page = 50
    list_max_show_all = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        objects: Any = self.model._default_manager
        ordering: Any = self.get_ordering(request) or self.opts.ordering
        return objects.visible_to(request.user).order_by(*ordering)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST" or not transaction.get_connection().in_atomic_block:
            return found
        # What is about to be changed is locked and read again, so that nothing done meanwhile is overwritten.
        self.model._base_manager.select_for_update().filter(pk=found.pk).values("pk").first()
        return super().get_object(request, object_id, from_field)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs.setdefault("widget", IdSelect(db_field, self.admin_site))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        widget = field.widget if field else None
        if isinstance(widget, RelatedFieldWidgetWrapper):
            # What a field refers to has a page of its own, and many who choose it may not go there.
            for what in ("add", "change", "delete", "view"):
                setattr(widget, f"can_{what}_related", False)
        return field

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Fields, tags and whatever else the form changes are told as one change.
        with unit() if request.method == "POST" else nullcontext():
            return super().changeform_view(request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def response_action(self, request: HttpRequest, queryset: QuerySet, *args: Any) -> HttpResponse | None:
        if request.POST.get("select_across") == "1":
            # "All" on the page means all that were counted.
            queryset = queryset.filter(pk__in=queryset.values("pk")[:MAX_COUNT])
        return super().response_action(request, queryset, *args)

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> tuple[list, dict, set, list]:
        # Nothing else goes with what is deleted: the row stays, and so does what refers to it.
        objects = list(objs)
        names = [str(instance) for instance in objects[:MAX_NAMED]]
        if len(objects) > MAX_NAMED:
            names.append(f"… and {len(objects) - MAX_NAMED:,} more")
        return names, {self.opts.verbose_name_plural: len(objects)}, set(), []


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
        return queryset.filter((self.parameter_name, self.value())) if self.value() in known else queryset.none()


def does_not_exist(request: HttpRequest, model: type[Model], object_id: str) -> HttpResponse:
    """Back to the front page, with the words the admin has for a wrong id."""
    messages.warning(request, f"{capfirst(model._meta.verbose_name)} with ID “{object_id}” doesn’t exist.")
    return HttpResponseRedirect(reverse("admin:index"))


def badge(kind: str, value: str, label: str) -> SafeString:
    """A word in the colour of its meaning; the style sheet has one rule for each kind and value."""
    return format_html('<span class="badge {}-{}">{}</span>', kind, value, label)


def preformatted(text: str) -> SafeString | str:
    """Text as it came, line for line."""
    return format_html('<pre class="preformatted">{}</pre>', text) if text else "–"
