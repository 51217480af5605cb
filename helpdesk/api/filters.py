"""List filters that refuse what they do not know: a mistyped parameter must not look like an empty answer."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from django_filters.utils import translate_validation
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from helpdesk.api.pagination import PARAMETERS


def refuse_unknown_parameters(request: Request, known: set[str]) -> None:
    """400 for query parameters that are not `known`."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise ValidationError({name[:100]: ["Unknown parameter."] for name in unknown[:20]})


class StrictFilterBackend(DjangoFilterBackend):
    """A view's `filterset_class`; parameters and values it does not know are 400."""

    def filter_queryset(self, request: Request, queryset: QuerySet, view: APIView) -> QuerySet:
        if set(request.query_params) <= set(PARAMETERS):
            return queryset  # most lists are asked for as they are, and building a form of filters takes its time
        filterset: Any = self.get_filterset(request, queryset, view)
        refuse_unknown_parameters(request, {*PARAMETERS, *(filterset.filters if filterset is not None else ())})
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise translate_validation(filterset.errors)
        return filterset.qs


class _MomentField(IsoDateTimeField):
    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError:  # the last hours of the year 9999, said far in the west
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None


class MomentFilter(filters.IsoDateTimeFilter):
    """A time in ISO 8601; without an offset it is UTC."""

    field_class = _MomentField


class FlagFilter(filters.TypedChoiceFilter):
    """`true` or `false`; django-filter's own BooleanFilter takes any other word for "no filter"."""

    def __init__(self, **kwargs: Any) -> None:
        choices = (("true", "true"), ("false", "false"))
        super().__init__(choices=choices, coerce=lambda word: word == "true", empty_value=None, **kwargs)

    def filter(self, qs: QuerySet, value: bool | None) -> QuerySet:
        # TypedChoiceFilter passes over whatever is false.
        return qs if value in (None, "") else qs.filter(**{f"{self.field_name}__{self.lookup_expr}": value})
