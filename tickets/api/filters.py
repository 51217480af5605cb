from typing import Any
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field

from helpdesk.api.entities import CUSTOMER, audience_of
from helpdesk.api.filters import MomentFilter
from tickets.models import Priority, Status, Ticket
from tickets.search import matching

# Each is a join: enough to narrow a list down, few enough for every database's planner.
MAX_TAGS_ASKED = 10
NOBODY = "none"


class _AssigneeField(forms.UUIDField):
    def to_python(self, value: Any) -> Any:
        return value if value == NOBODY else super().to_python(value)


@extend_schema_field({"type": "string", "description": "An id, or `none` for tickets that nobody has taken."})
class AssigneeFilter(filters.UUIDFilter):
    field_class = _AssigneeField

    def filter(self, qs: QuerySet[Ticket], value: UUID | str | None) -> QuerySet[Ticket]:
        return qs.filter(assignee=None) if value == NOBODY else super().filter(qs, value)


class _TagsField(forms.Field):
    widget = forms.MultipleHiddenInput  # every value of a repeated parameter
    tag = forms.CharField(max_length=50)

    def clean(self, value: list[str] | None) -> list[str]:
        if len(value or []) > MAX_TAGS_ASKED:
            raise forms.ValidationError(f"Ask for {MAX_TAGS_ASKED} tags at most.", code="max_tags")
        return [self.tag.clean(tag).lower() for tag in value or []]


@extend_schema_field(
    {"type": "array", "items": {"type": "string"}, "description": "All of these; repeat it for more than one."}
)
class TagsFilter(filters.Filter):
    field_class = _TagsField

    def filter(self, qs: QuerySet[Ticket], value: list[str]) -> QuerySet[Ticket]:
        for tag in value:
            qs = qs.filter(ticket_tags__name=tag)
        return qs


class TicketFilter(filters.FilterSet):
    status = filters.MultipleChoiceFilter(
        choices=Status.choices, distinct=False, help_text="Any of these; repeat it for more than one."
    )
    priority = filters.MultipleChoiceFilter(
        choices=Priority.choices, distinct=False, help_text="Any of these; repeat it for more than one."
    )
    requester_id = filters.UUIDFilter()
    assignee_id = AssigneeFilter()
    tag = TagsFilter()
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte", help_text="At this time or later.")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt", help_text="Before this time.")
    updated_after = MomentFilter(field_name="updated_at", lookup_expr="gte", help_text="At this time or later.")
    source = filters.CharFilter(max_length=50, help_text="Agents and administrators.")
    external_id = filters.CharFilter(max_length=100, help_text="Agents and administrators.")
    search = filters.CharFilter(
        method="matching", max_length=200, help_text="Words of title or description, or the ticket's number."
    )

    class Meta:
        model = Ticket
        fields: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if audience_of(getattr(self.request, "user", None)) == CUSTOMER:
            # What customers do not see they cannot ask for.
            del self.filters["source"], self.filters["external_id"]

    def matching(self, queryset: QuerySet[Ticket], name: str, value: str) -> QuerySet[Ticket]:
        return matching(queryset, value)
