"""List filters that refuse what they do not know: a mistyped parameter must not look like an empty answer."""

from datetime import UTC, datetime
from typing import Any

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
        filterset: Any = self.get_filterset(request, queryset, view)
        refuse_unknown_parameters(request, {*PARAMETERS, *(filterset.filters if filterset is not None else ())})
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise translate_validation(filterset.errors)
        return filterset.qs


class _MomentField(IsoDateTimeField):
    def strptime(self, value: str, format: str) -> datetime:
        moment = super().strptime(value, format)
        try:
            return moment.astimezone(UTC)
        except OverflowError:  # the year 9999 in the far west
            raise ValueError(value) from None


class MomentFilter(filters.IsoDateTimeFilter):
    """A time in ISO 8601; without an offset it is UTC."""

    field_class = _MomentField
